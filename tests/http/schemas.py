"""
What holds a body or a frame against the document's schemas, more strictly than a client may.

A client must bear members that it does not know, since records may grow. A test must not: what the service says and the
document does not is a gap in the document. So the schemas are closed here.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import jsonschema_rs
from msgspec import json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.http.client import JSON

SCHEMAS: Final = "#/components/schemas/"


def closed(document: Mapping[str, Any]) -> JSON:
    """
    The schemas of *document*, each without room for members that it does not name.
    """
    schemas = {name: dict(schema) for name, schema in document["components"]["schemas"].items()}
    for schema in schemas.values():
        if "properties" in schema:
            schema["additionalProperties"] = False
    return schemas


def errors_of(schemas: JSON, schema: JSON, value: JSON) -> list[str]:
    """
    What of *value* is not as *schema* says, with *schemas* behind its references.
    """
    validator = _validator(json.encode(schema | {"components": {"schemas": schemas}}))
    return [f"{error.instance_path}: {error.message[:300]}" for error in validator.iter_errors(value)]


@lru_cache(maxsize=256)
def _validator(schema: bytes) -> jsonschema_rs.Draft202012Validator:
    return jsonschema_rs.Draft202012Validator(json.decode(schema), validate_formats=True)
