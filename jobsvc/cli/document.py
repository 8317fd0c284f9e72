"""
The verb ``openapi``: the OpenAPI document, as the service serves it.

Made from the code alone: no service need run, and no file is read.
"""

from __future__ import annotations

import click

from jobsvc.cli.options import output_option


@click.command(epilog="Example: jobsvc openapi > openapi.json")
@output_option
def openapi(*, output: str) -> None:
    """
    Print the OpenAPI document, as GET /openapi.json answers it.

    Feed it to a generator of clients, or to any tool that reads OpenAPI 3.1. It is JSON in either form, with -o json on
    one line.
    """
    from msgspec import json

    from jobsvc.http.reference import published
    from jobsvc.http.routes import ROUTES

    document = published(ROUTES).as_json
    click.echo(document if output == "json" else json.format(document, indent=2))
