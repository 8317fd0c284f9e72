"""
What holds answers and frames against the document, more strictly than a client may.

A client must bear members that it does not know, since records may grow. A test must not: what the service says and the
document does not is a gap in the document. So the schemas are closed here. Every answer that a test over HTTP gets goes
through this (tests/http/client.py).
"""

from __future__ import annotations

import re
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, Final

import jsonschema_rs
from msgspec import json

from jobsvc.http.openapi import document
from jobsvc.http.routes import ROUTES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.http.client import JSON, Answer

DOCUMENT: Final[JSON] = document(ROUTES)
FRAME: Final = {"$ref": "#/components/schemas/StreamFrame"}
_OF_ANY_PATH: Final = {"400", "404", "405", "421", "500"}
"""
What the edge answers before it knows the route.
"""
_PROBLEM: Final = {"$ref": "#/components/schemas/Problem"}
_CLEANUP_PROBLEM: Final = {"$ref": "#/components/schemas/CleanupProblem"}


def closed() -> JSON:
    """
    The schemas of the document, each without room for members that it does not name.
    """
    schemas = {name: dict(schema) for name, schema in DOCUMENT["components"]["schemas"].items()}
    for schema in schemas.values():
        if "properties" in schema:
            schema["additionalProperties"] = False
    return schemas


def errors_of(schema: Mapping[str, Any], value: JSON) -> list[str]:
    """
    What of *value* is not as *schema* says.
    """
    validator = _validator(json.encode(schema))
    return [f"{error.instance_path}: {error.message[:300]}" for error in validator.iter_errors(value)]


def gaps(method: str, path: str, answer: Answer) -> list[str]:
    """
    What of *answer* to *method* on *path* the document does not say.
    """
    operation = _operation("GET" if method == "HEAD" else method, path)
    if operation is None or str(answer.status) in _OF_ANY_PATH - operation["responses"].keys():
        return _problem_gaps(path, answer)
    described = operation["responses"].get(str(answer.status))
    if described is None:
        return [f"{method} {path} is not said to answer {answer.status}"]
    lacking = [name for name, each in described.get("headers", {}).items() if each.get("required")]
    return [f"no {name}" for name in lacking if name not in answer.headers] + _content_gaps(
        described.get("content", {}), method, answer
    )


def _problem_gaps(path: str, answer: Answer) -> list[str]:
    """
    What the document does not say of a problem that any path may answer.
    """
    if answer.headers.get("Content-Type") != "application/problem+json" or not answer.content:
        return []
    if answer.status == 405 and "Allow" not in answer.headers:
        return ["no Allow"]
    return errors_of(_CLEANUP_PROBLEM if "/cleanup/" in path else _PROBLEM, answer.body)


def _content_gaps(contents: JSON, method: str, answer: Answer) -> list[str]:
    kind = answer.headers.get("Content-Type", "").partition(";")[0]
    if not answer.content:
        # No lines are a page of lines too.
        return [] if method == "HEAD" or not contents or kind == "application/x-ndjson" else ["an empty body"]
    if kind not in contents:
        return [f"a body of type {kind}"]
    if kind == "application/x-ndjson":
        lines = answer.content.splitlines()
        return [gap for line in lines for gap in errors_of(contents[kind]["x-item-schema"], json.decode(line))]
    return errors_of(contents[kind]["schema"], answer.body) if kind.endswith("json") else []


def _operation(method: str, path: str) -> JSON:
    """
    The operation that answers *method* on *path*, exact paths first; None if there is none.
    """
    named = path.partition("?")[0]
    found = [template for template in DOCUMENT["paths"] if _pattern(template).fullmatch(named)]
    best = min(found, key=lambda template: template.count("{"), default=None)
    return None if best is None else DOCUMENT["paths"][best].get(method.lower())


@cache
def _pattern(template: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\{\w+\}", "[^/]+", template))


@lru_cache(maxsize=256)
def _validator(schema: bytes) -> jsonschema_rs.Draft202012Validator:
    whole = json.decode(schema) | {"components": {"schemas": closed()}}
    return jsonschema_rs.Draft202012Validator(whole, validate_formats=True)
