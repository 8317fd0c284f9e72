"""
The reference: the OpenAPI document as JSON and as a page to read, made once and then answered from memory.

The page is made here, of the document alone: no script, nothing from elsewhere, so that it reads without the internet
and under a policy that allows nothing but our own style.
"""

from __future__ import annotations

import asyncio
import hashlib
from functools import lru_cache
from html import escape
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web
from msgspec import Struct, json

from jobsvc.http.openapi import document
from jobsvc.http.pages import HEADERS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from jobsvc.http.call import Call
    from jobsvc.http.edge import Route


class Published(Struct, frozen=True):
    """The document in the two forms in which it is served, and the ETag of both."""

    as_json: bytes
    as_page: bytes
    tag: str


@lru_cache(maxsize=1)
def published(routes: tuple[Route, ...]) -> Published:
    """The document of *routes*, ready to be sent. Cost: some 200 ms the first time, nothing after."""
    made = document(routes)
    content = json.encode(made)
    page = "".join(_page(made)).encode()
    return Published(content, page, f'"{hashlib.sha256(content).hexdigest()[:32]}"')


async def answer_json(call: Call, routes: tuple[Route, ...]) -> web.Response:
    """``GET /openapi.json``."""
    made = await _published_aside(routes)
    return _answer(call, made.as_json, made.tag, content_type="application/json")


async def answer_page(call: Call, routes: tuple[Route, ...]) -> web.Response:
    """``GET /docs``."""
    made = await _published_aside(routes)
    return _answer(call, made.as_page, made.tag, content_type="text/html")


async def _published_aside(routes: tuple[Route, ...]) -> Published:
    """The document, made on another thread the first time: it takes longer than a stream should wait."""
    return await asyncio.to_thread(published, routes)


def _answer(call: Call, content: bytes, tag: str, *, content_type: str) -> web.Response:
    headers = HEADERS | {"ETag": tag}
    asked = call.request.headers.get("If-None-Match", "")
    if asked.strip() == "*" or tag in (each.strip().removeprefix("W/") for each in asked.split(",")):
        return web.Response(status=304, headers=headers)
    return web.Response(body=content, headers=headers, content_type=content_type, charset="utf-8")


# The page


def _page(made: Mapping[str, Any]) -> Iterator[str]:
    info = made["info"]
    yield '<!doctype html><html lang="en"><head><meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" '
    yield f'content="light dark"><title>{_text(info["title"])} API</title><link rel="stylesheet" href="/docs.css">'
    yield f"</head><body><header><h1>{_text(info['title'])} API <small>{_text(info['version'])}</small></h1>"
    yield f"<p>{_text(info['summary'])}</p><p>{_text(info['description'])}</p>"
    yield '<p><a href="/openapi.json">openapi.json</a></p></header>'
    yield from _contents(made)
    yield "<main>"
    for group in made["tags"]:
        yield f'<section><h2 id="{_anchor(group["name"])}">{_text(group["name"])}</h2>'
        yield f"<p>{_text(group['description'])}</p>"
        for path, method, operation in _operations(made, group["name"]):
            yield from _operation(path, method, operation)
        yield "</section>"
    yield '<section><h2 id="proofs">Who is asking</h2><dl>'
    for name, scheme in made["components"]["securitySchemes"].items():
        yield f"<dt><code>{_text(name)}</code></dt><dd>{_text(scheme['description'])}</dd>"
    yield '</dl></section><section><h2 id="records">Records</h2>'
    for name, schema in made["components"]["schemas"].items():
        yield from _record(name, schema)
    yield "</section></main></body></html>\n"


def _contents(made: Mapping[str, Any]) -> Iterator[str]:
    yield "<nav><ul>"
    for group in made["tags"]:
        yield f'<li><a href="#{_anchor(group["name"])}">{_text(group["name"])}</a><ul>'
        for path, method, operation in _operations(made, group["name"]):
            yield f'<li><a href="#{operation["operationId"]}"><b>{method}</b> {_text(path)}</a></li>'
        yield "</ul></li>"
    yield '<li><a href="#proofs">Who is asking</a></li><li><a href="#records">Records</a></li></ul></nav>'


def _operations(made: Mapping[str, Any], group: str) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for path, by_method in made["paths"].items():
        for method, operation in by_method.items():
            if group in operation["tags"]:
                yield path, method.upper(), operation


def _operation(path: str, method: str, operation: Mapping[str, Any]) -> Iterator[str]:
    yield f'<article id="{operation["operationId"]}"><h3><b>{method}</b> <code>{_text(path)}</code></h3>'
    yield f"<p>{_text(operation['summary'])} {_text(operation['description'])}</p>"
    proofs = [name for proof in operation["security"] for name in proof or {"nothing": []}]
    yield f'<p class="proofs">Proved by: {_text(", ".join(proofs) or "nothing")}</p>'
    if "parameters" in operation:
        yield "<h4>Parameters</h4><table>"
        for each in operation["parameters"]:
            yield _row(each["name"], each["in"], _type(each["schema"]), each["description"])
        yield "</table>"
    if "requestBody" in operation:
        ((kind, content),) = operation["requestBody"]["content"].items()
        yield f"<h4>Body</h4><p>{_text(kind)}: {_type(content['schema'])}</p>{_example(content)}"
    yield "<h4>Answers</h4><table>"
    for status, answer in operation["responses"].items():
        yield _row(status, _kinds(answer), _headers(answer), answer["description"])
    yield "</table>"
    for answer in operation["responses"].values():
        yield from (_example(content) for content in answer.get("content", {}).values() if "example" in content)
    yield "</article>"


def _kinds(answer: Mapping[str, Any]) -> str:
    kinds = answer.get("content", {}).items()
    return "<br>".join(
        f"{_text(kind)}: {_type(content.get('x-item-schema', content['schema']))}" for kind, content in kinds
    )


def _headers(answer: Mapping[str, Any]) -> str:
    return " ".join(f"<code>{_text(name)}</code>" for name in answer.get("headers", {}))


def _record(name: str, schema: Mapping[str, Any]) -> Iterator[str]:
    yield f'<article id="record-{_anchor(name)}"><h3><code>{_text(name)}</code></h3>'
    yield f"<p>{_text(schema.get('description', ''))}</p>"
    if "properties" not in schema:
        yield f"<p>{_type(schema)}</p></article>"
        return
    yield "<table>"
    for field, of_field in schema["properties"].items():
        needed = "" if field in schema.get("required", ()) else "may be left out"
        yield _row(field, needed, _type(of_field), of_field.get("description", ""))
    yield "</table></article>"


def _row(name: str, second: str, third: str, says: str) -> str:
    """A row of a table; *second* and *third* are HTML."""
    return f"<tr><th><code>{_text(name)}</code></th><td>{second}</td><td>{third}</td><td>{_text(says)}</td></tr>"


def _example(content: Mapping[str, Any]) -> str:
    shown = json.format(json.encode(content["example"]), indent=2).decode()
    return f"<details><summary>Example</summary><pre>{escape(shown)}</pre></details>"


def _type(schema: Mapping[str, Any]) -> str:
    """*schema* in a few words of HTML, with links to records."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f'<a href="#record-{_anchor(name)}">{_text(name)}</a>'
    for words, joined in (("anyOf", " or "), ("allOf", " with ")):
        if words in schema:
            return joined.join(filter(None, map(_type, schema[words])))
    if "enum" in schema:
        return " | ".join(f"<code>{_text(json.encode(each).decode())}</code>" for each in schema["enum"])
    if "properties" in schema and "type" not in schema:
        return ", ".join(f"{_text(name)} {_type(each)}" for name, each in schema["properties"].items())
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    return _text(str(schema.get("type", "any JSON"))) + "".join(_bounds(schema))


def _bounds(schema: Mapping[str, Any]) -> Iterator[str]:
    for word, sign in _SIGNS.items():
        if word in schema:
            yield f" {sign} {_text(str(schema[word]))}"


_SIGNS: Final = {"minimum": "≥", "exclusiveMinimum": "&gt;", "maximum": "≤", "format": "as", "pattern": "like"}


def _anchor(name: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in name).lower()


def _text(text: str) -> str:
    """*text* as HTML, what stands between backticks as code."""
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if place % 2 else part for place, part in enumerate(parts))
