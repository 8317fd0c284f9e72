"""
One line: JSON that is a single line to whoever cuts a text into lines.

JSON has no raw line feed, but many libraries also end a line at U+0085, U+2028 and U+2029, which may stand in its
strings as they are. Escaped they are the same text. For streams, lines of JSON and the log; a body is no line.
"""

from __future__ import annotations

from typing import Final

_ESCAPED: Final = tuple((chr(code).encode(), b"\\u%04x" % code) for code in (0x85, 0x2028, 0x2029))


def one_line(content: bytes) -> bytes:
    """
    *content*, which is JSON, without a character that anybody takes for the end of a line.

    Cost: nothing to speak of for ASCII, which most of it is.
    """
    if not content.isascii():
        for raw, escaped in _ESCAPED:
            content = content.replace(raw, escaped)
    return content
