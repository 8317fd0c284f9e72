from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest
import schemathesis
from click.testing import CliRunner

from jobsvc.cli import main
from jobsvc.http.catalogue import CATALOGUE
from jobsvc.http.problems import STATUS_OF_CODE
from jobsvc.http.routes import ROUTES
from tests.http.described import DOCUMENT, errors_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.http.client import JSON
    from tests.http.world import World


def operations() -> Iterator[tuple[str, JSON]]:
    """
    Every operation of the document, with its name.
    """
    for by_method in DOCUMENT["paths"].values():
        for operation in by_method.values():
            yield operation["operationId"], operation


def contents() -> Iterator[tuple[str, JSON]]:
    """
    Every body with an example, with a name for it.
    """
    for name, operation in operations():
        bodies = {"body": operation["requestBody"]} if "requestBody" in operation else {}
        for place, described in (bodies | operation["responses"]).items():
            for kind, content in described.get("content", {}).items():
                yield f"{name} {place} {kind}", content


def test_every_route_has_its_entry() -> None:
    """
    A route that is added is described in the catalogue, or this fails; nor is anything described that is no route.
    """
    routes = {(route.method, route.path) for route in ROUTES}

    assert routes == CATALOGUE.keys()


def test_the_document_is_openapi() -> None:
    """
    It is what the schema of OpenAPI 3.1 says, so that any tool can read it.
    """
    schemathesis.openapi.from_dict(DOCUMENT).validate()


def test_operations_have_names_of_their_own() -> None:
    """
    A generated client has a function for each.
    """
    names = [name for name, _ in operations()]

    assert sorted(set(names)) == sorted(names)


def test_the_problems_that_are_named_exist() -> None:
    """
    No entry names a code that the service cannot say.
    """
    named = {code for entry in CATALOGUE.values() for code in entry.codes}

    assert set() == named - STATUS_OF_CODE.keys()


def test_every_reference_leads_somewhere() -> None:
    """
    Each $ref names a schema that is there, and each schema is named by something.
    """
    text = json.dumps(DOCUMENT)

    named = set(re.findall(r'"#/components/schemas/(\w+)"', text))

    assert DOCUMENT["components"]["schemas"].keys() == named


@pytest.mark.parametrize(("name", "content"), [pytest.param(*pair, id=pair[0]) for pair in contents()])
def test_every_example_is_what_its_schema_says(name: str, content: JSON) -> None:
    """
    What a reader copies is valid, to the last field; every JSON body has an example.
    """
    if name.endswith(" application/json") and "readDocument" not in name:
        assert [] == errors_of(content["schema"], content["example"])


async def test_the_document_is_served_and_known_by_its_tag(world: World) -> None:
    """
    Anybody reads it; who has it already is told so.
    """
    first = await world.nobody.get("/openapi.json")
    again = await world.nobody.get("/openapi.json", headers={"If-None-Match": first.headers["ETag"]})
    other = await world.nobody.get("/openapi.json", headers={"If-None-Match": '"another"'})

    assert ("3.1.0", "application/json; charset=utf-8") == (first.body["openapi"], first.headers["Content-Type"])
    assert (304, b"", 200) == (again.status, again.content, other.status)


async def test_the_program_prints_what_the_service_serves(world: World) -> None:
    """
    The verb needs no service, and says the same.
    """
    printed, on_a_line = (CliRunner().invoke(main, ["openapi", *form]) for form in ([], ["-o", "json"]))

    assert (0, 0) == (printed.exit_code, on_a_line.exit_code)
    assert 1 == on_a_line.output.count("\n") < printed.output.count("\n")
    assert json.loads(printed.output) == json.loads(on_a_line.output) == (await world.nobody.get("/openapi.json")).body


async def test_the_reference_names_all_and_needs_nobody(world: World) -> None:
    """
    Every route and record stands on the page, each link leads to a place on it, and nothing is loaded from elsewhere.
    """
    page = await world.nobody.get("/docs")

    text = page.content.decode()
    places, links = set(re.findall(r' id="([^"]+)"', text)), set(re.findall(r'href="#([^"]+)"', text))
    assert set() == {name for name, _ in operations()} - places
    assert set() == links - places
    assert {"/docs.css", "/openapi.json"} == set(re.findall(r'(?:href|src)="([^"#][^"]*)"', text))
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    assert "<script" not in text
    assert "style=" not in text
