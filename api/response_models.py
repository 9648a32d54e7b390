"""Envelopes of responses, for the OpenAPI document. Rows are the dataclasses of `warehouse.results`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from api import problems
from api.serialization import to_csv
from contracts.boundary import Boundary
from warehouse.periods import Period
from warehouse.results import ChargebackRow, RequestEnergyRow, SessionRow

Row = TypeVar("Row")


class RowsResponse(BaseModel, Generic[Row]):
    """Page of rows. `simulated` is true if any of them has simulated energy: show that beside the figures."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=False)

    period: Period
    coverage: Annotated[
        Period | None,
        Field(description="The part of the period that the ledger's final windows cover; null: nothing of it."),
    ] = None
    simulated: bool
    rows: list[Row]
    next: Annotated[str | None, Field(description="Cursor of the next page; null on the last.")] = None


class EfficiencyResponse(RowsResponse[ChargebackRow]):
    """Page of rows within a boundary.

    `clusters_outside` have energy, but none of the part that the boundary is named for: of those the rows have less.
    Of `clusters_excluded`, some of these, they have nothing.
    """

    boundary: Annotated[Boundary | None, Field(description="As asked for; null is all that was measured.")] = None
    clusters_outside: list[str] = Field(default_factory=list)
    clusters_excluded: list[str] = Field(default_factory=list)
    withheld: list[str] = Field(default_factory=list, description="Fields that the caller may not see: null here.")


class ChargebackResponse(EfficiencyResponse):
    """Page of a chargeback. `total` covers all pages: it is exactly what their rows sum to."""

    total: ChargebackRow


class RequestsResponse(RowsResponse[RequestEnergyRow]):
    """Page of requests. `note` says why requests that the ledger counts may be missing."""

    note: Annotated[str | None, Field(description="Set where workers do not store single requests.")] = None


class SessionsResponse(RowsResponse[SessionRow]):
    """Page of sessions. `note` says why the energy and tokens of their requests may be missing."""

    note: Annotated[str | None, Field(description="Set where workers do not store single requests.")] = None


def _has_rows_of_fields(example: dict[str, Any]) -> bool:
    return isinstance(next(iter(example.get("rows", ())), None), dict)


def documented_files(examples: Mapping[str, str | None]) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI responses of a route that answers with files: an example by media type, None for binary."""
    content = {
        media_type: {"schema": {"type": "string"} | ({"format": "binary"} if example is None else {})}
        | ({} if example is None else {"example": example})
        for media_type, example in examples.items()
    }
    return {200: {"content": content, "description": "A file"}, **problems.responses(401, 403, 422, 429, 503)}


def documented(model: Any, example: dict[str, Any], *also: int, csv: str = "") -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI responses of a route: its response with an example, and its problems.

    `csv` is the example in CSV where that differs from the example's rows; `also` adds statuses of problems.
    """
    content: dict[str, Any] = {"application/json": {"example": example}}
    if csv or _has_rows_of_fields(example):
        csv = csv or to_csv(example["rows"], list(example["rows"][0]))
        content["text/csv"] = {"schema": {"type": "string"}, "example": csv}
    return {200: {"model": model, "content": content}, **problems.responses(401, 403, 422, 429, 503, *also)}
