"""
The verb ``openapi``: the OpenAPI document, as the service serves it.

Made from the code alone: no service need run, and no file is read.
"""

from __future__ import annotations

import click


@click.command(epilog="Example: jobsvc openapi > openapi.json")
def openapi() -> None:
    """
    Print the OpenAPI document, as GET /openapi.json answers it.

    Feed it to a generator of clients, or to any tool that reads OpenAPI 3.1.
    """
    from msgspec import json

    from jobsvc.http.reference import published
    from jobsvc.http.routes import ROUTES

    click.echo(json.format(published(ROUTES).as_json, indent=2))
