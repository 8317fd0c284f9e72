"""
The OpenAPI document: made of the route table, the catalogue and the records, so that it cannot say anything else.

Nothing is declared here but the form of the document (OpenAPI 3.1, with JSON Schema 2020-12 as msgspec makes it) and
what follows for every route from its row: who proves itself how, and which problems any route of its kind may answer.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, get_args

from msgspec import json
from msgspec.structs import fields

import jobsvc
from jobsvc.http import bodies, frames, shapes
from jobsvc.http.bodies import SCHEMAS
from jobsvc.http.catalogue import CATALOGUE
from jobsvc.http.entry import JSON, Entry
from jobsvc.http.origins import COOKIE, SECURE_COOKIE
from jobsvc.http.problems import CONTENT_TYPE, STATUS_OF_CODE, TITLE_OF_CODE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from jobsvc.http.edge import Route
    from jobsvc.http.entry import Parameter, Reply

VERSION: Final = "3.1.0"
_PARAMETER: Final = re.compile(r"\{(\w+)\}")
_SAID_OF: Final = {"id": "The id of a job.", "name": "The name of a projection."}
_BODY_CODES: Final = ("malformed", "too-large", "unsupported-media-type", "invalid")
_BUSY_CODES: Final = ("slow-down", "unavailable", "draining")
_ALWAYS: Final = ("misdirected", "internal")
_GROUPS: Final = {
    "Jobs": "Make, look, wait, cancel, retry, clean up: for front ends.",
    "Stream": "Everything that the caller may see, live.",
    "Workers": "Claim and report.",
    "Sessions": "Who is asking.",
    "Operators": "The log, the views, and how the service is.",
    "Pages": "For people.",
}
_IN_LISTS: Final = (
    bodies.CreateBody,
    *get_args(bodies.AnyReport),
    shapes.CreateResult,
    shapes.LeaseResult,
    shapes.EndResult,
)
"""Records that stand in lists only, where no annotation leads to them."""


def document(routes: Iterable[Route]) -> dict[str, Any]:
    """
    The document of *routes*, as JSON's own types.

    Raises:
        KeyError: A route has no entry in the catalogue.
    """
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        entry = CATALOGUE[route.method, route.path]
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, entry)
    return {
        "openapi": VERSION,
        "info": {
            "title": "jobsvc",
            "version": jobsvc.__version__,
            "summary": "One active job per key, a live stream of its state, and a log that replays.",
            "description": (
                "Times are RFC 3339 UTC with microseconds, lengths of time are numbers with the unit in the name, ids "
                "are UUIDv7. Unknown body fields are refused. Another's job is 403, 404 only if there is none. Every "
                "GET answers HEAD too. Records may grow: ignore members that you do not know."
            ),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": says} for name, says in _GROUPS.items()],
        "paths": paths,
        "components": {"schemas": _schemas(), "securitySchemes": _SECURITY_SCHEMES},
    }


_SECURITY_SCHEMES: Final[Mapping[str, Any]] = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "A token: `jobsvc token`, `POST /api/sessions/guest`. It wins over the cookie.",
    },
    "cookie": {
        "type": "apiKey",
        "in": "cookie",
        "name": COOKIE,
        "description": f"A session; `{SECURE_COOKIE}` under TLS. Writes from another origin are refused.",
    },
    "ticket": {
        "type": "apiKey",
        "in": "query",
        "name": "ticket",
        "description": "One use, for an EventSource that can send no header. One that is used or has run out is 204.",
    },
}


# Schemas


def _schemas() -> dict[str, Any]:
    """Every record that a body or a frame may hold, by name."""
    types = [shape for entry in CATALOGUE.values() for shape in _shapes(entry)]
    roots = dict.fromkeys([*types, *_IN_LISTS, shapes.Problem, shapes.CleanupProblem])
    _, schemas = json.schema_components(roots, ref_template=SCHEMAS + "{name}")
    schemas["StreamFrame"] = _frame_schema()
    return {name: _without_titles(schemas[name]) for name in sorted(schemas)}


def _shapes(entry: Entry) -> list[Any]:
    """The records of an entry's bodies, unions taken apart: msgspec describes them, but reads no such union."""
    told = [shape for reply in entry.replies.values() for shape in _members(reply.shape)]
    return told if entry.body is None else [*told, entry.body]


def _members(shape: Any) -> list[Any]:  # noqa: ANN401  # any record, a union of them, or None
    return [] if shape is None else list(get_args(shape)) or [shape]


def _frame_schema() -> dict[str, Any]:
    names = {each.__struct_config__.tag: SCHEMAS + each.__name__ for each in get_args(frames.StreamFrame)}
    return {
        "description": "One frame of a stream.",
        "anyOf": [{"$ref": name} for name in names.values()],
        "discriminator": {"propertyName": "event", "mapping": names},
    }


def _schema(shape: Any) -> dict[str, Any]:  # noqa: ANN401  # any type that msgspec describes, or a union of records
    """The schema of *shape*; records by reference."""
    if len(members := _members(shape)) > 1 and all(hasattr(each, "__struct_fields__") for each in members):
        return {"anyOf": [{"$ref": SCHEMAS + each.__name__} for each in members]}
    (schema,), _ = json.schema_components([shape], ref_template=SCHEMAS + "{name}")
    return schema


def _without_titles(schema: dict[str, Any]) -> dict[str, Any]:
    """*schema* without the title that repeats its name, and in the marks of the document's own text."""
    schema.pop("title", None)
    if "description" in schema:
        schema["description"] = " ".join(schema["description"].split()).replace("``", "`")
    return schema


# Operations


def _operation(route: Route, entry: Entry) -> dict[str, Any]:
    made: dict[str, Any] = {
        "operationId": entry.operation,
        "summary": route.says,
        "tags": [entry.group],
        "security": _security(route, entry),
        "responses": _answers(route, entry),
    }
    made["description"] = " ".join(filter(None, (entry.more, _callers(route))))
    parameters = [*_in_path(route.path), *(_parameter(each) for each in entry.parameters)]
    if parameters:
        made["parameters"] = parameters
    if entry.body is not None:
        made["requestBody"] = _request(entry)
    return made


def _callers(route: Route) -> str:
    return "" if route.roles is None else f"For {', '.join(sorted(route.roles))}."


def _security(route: Route, entry: Entry) -> list[dict[str, list[str]]]:
    proofs: tuple[str, ...]
    if entry.proofs is not None:
        proofs = entry.proofs
    elif route.roles is None:
        return []
    else:
        cookie = ("cookie",) if route.roles & {"guest", "user"} else ()
        ticket = ("ticket",) if route.ticket else ()
        proofs = ("bearer", *cookie, *ticket)
    return [{} if proof == "none" else {proof: []} for proof in proofs]


def _in_path(path: str) -> Iterable[dict[str, Any]]:
    for name in _PARAMETER.findall(path):
        schema = {"type": "string", "minLength": 1}
        yield {"name": name, "in": "path", "required": True, "description": _SAID_OF[name], "schema": schema}


def _parameter(parameter: Parameter) -> dict[str, Any]:
    schema = _schema(parameter.shape)
    return {
        "name": parameter.name,
        "in": parameter.place,
        "description": parameter.says,
        "schema": {"type": "array", "items": schema} if parameter.repeats else schema,
        "example": [parameter.example] if parameter.repeats else parameter.example,
    }


def _request(entry: Entry) -> dict[str, Any]:
    """An absent body is an empty object, so it is required where a field is."""
    needed = any(field.required for field in fields(entry.body))
    return {"required": needed, "content": {JSON: {"schema": _schema(entry.body), "example": entry.example}}}


def _answers(route: Route, entry: Entry) -> dict[str, Any]:
    made = {str(status): _reply(reply) for status, reply in entry.replies.items()}
    by_status: dict[int, list[str]] = {}
    for code in codes_of(route, entry):
        by_status.setdefault(STATUS_OF_CODE[code], []).append(code)
    record = shapes.CleanupProblem if route.cleanup else shapes.Problem
    made |= {str(status): _problem(codes, record) for status, codes in sorted(by_status.items())}
    return made


def codes_of(route: Route, entry: Entry) -> list[str]:
    """The codes of the problems that *route* may answer, in the order of their statuses."""
    codes = {*entry.codes, *_ALWAYS}
    if route.roles is not None:
        codes |= {"unauthenticated", "access-denied", *_BUSY_CODES}
    if entry.body is not None:
        codes |= {*_BODY_CODES, *_BUSY_CODES}
    if entry.parameters:
        codes.add("invalid")
    if any(each.name == "If-Match" for each in entry.parameters):
        codes.add("malformed")
    if "{" in route.path:
        codes.add("not-found")
    return [code for code in STATUS_OF_CODE if code in codes]


def _reply(reply: Reply) -> dict[str, Any]:
    made: dict[str, Any] = {"description": reply.says}
    content: dict[str, Any] = {}
    if reply.shape is not None:
        content[JSON] = {"schema": _schema(reply.shape), "example": reply.example}
    content |= {kind: dict(described) for kind, described in reply.others.items()}
    if content:
        made["content"] = content
    if reply.headers:
        made["headers"] = {name: _header(says) for name, says in reply.headers.items()}
    if reply.links:
        made["links"] = {name: dict(link) for name, link in reply.links.items()}
    return made


def _header(says: str) -> dict[str, Any]:
    return {"description": says, "schema": {"type": "string"}}


def _problem(codes: list[str], record: type[shapes.Problem]) -> dict[str, Any]:
    """An answer that is one of the problems *codes*, which share a status."""
    named = {"properties": {"code": {"enum": codes}}}
    made: dict[str, Any] = {
        "description": "; ".join(f"`{code}`: {TITLE_OF_CODE[code]}" for code in codes),
        "content": {CONTENT_TYPE: {"schema": {"allOf": [{"$ref": SCHEMAS + record.__name__}, named]}}},
    }
    headers = {name: says for code in codes for name, says in _HEADERS_OF_CODE.get(code, {}).items()}
    if headers:
        made["headers"] = {name: _header(says) | {"required": True} for name, says in headers.items()}
    return made


_RETRY_AFTER: Final = {"Retry-After": "In how many seconds to try again."}
_HEADERS_OF_CODE: Final[Mapping[str, Mapping[str, str]]] = {
    "method-not-allowed": {"Allow": "The methods that the path takes."},
    "unauthenticated": {"WWW-Authenticate": "`Bearer`."},
    "slow-down": _RETRY_AFTER,
    "too-many-active": _RETRY_AFTER,
    "unavailable": _RETRY_AFTER,
    "draining": _RETRY_AFTER,
}
