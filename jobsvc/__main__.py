"""
``python -m jobsvc``: the same as the command ``jobsvc``.

Nothing else belongs here.
"""

from __future__ import annotations

from jobsvc.cli import main

if __name__ == "__main__":
    main()
