"""The envelopes of answers, for OpenAPI. Rows are the warehouse's own dataclasses."""

from __future__ import annotations

from typing import Annotated, Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from api import problems
from api.serialization import to_csv
from warehouse.periods import Period
from warehouse.results import ChargebackRow, RequestRow, SessionRow

Row = TypeVar("Row")


class Answer(BaseModel, Generic[Row]):
    """A page of rows. `simulated`: some of them hold simulated energy, and whatever shows them says so."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=False)

    period: Period
    simulated: bool
    rows: list[Row]
    next: Annotated[str | None, Field(description="Cursor of the next page; null on the last.")] = None


class ChargebackAnswer(Answer[ChargebackRow]):
    """`total` is of the whole period and filters, not of this page: what all pages' rows sum to, exactly."""

    total: ChargebackRow


class RequestsAnswer(Answer[RequestRow]):
    """`note`: why requests may lack that the ledger counts."""

    note: Annotated[str | None, Field(description="Set where workers do not store single requests.")] = None


class SessionsAnswer(Answer[SessionRow]):
    """`note`: why sessions may lack what their requests did."""

    note: Annotated[str | None, Field(description="Set where workers do not store single requests.")] = None


def documented(model: Any, example: dict[str, Any], *also: int, csv: str = "") -> dict[int | str, dict[str, Any]]:
    """OpenAPI responses of a route: the answer with an example, and the problems that it can be. `csv` only where it is
    not the example's rows."""
    content: dict[str, Any] = {"application/json": {"example": example}}
    if csv or "rows" in example:
        csv = csv or to_csv(example["rows"], list(example["rows"][0]))
        content["text/csv"] = {"schema": {"type": "string"}, "example": csv}
    return {200: {"model": model, "content": content}, **problems.responses(401, 403, 422, 503, *also)}
