"""SQL over the caller's rows: an operator's over all, a tenant's over its own."""

from __future__ import annotations

from dataclasses import fields
from typing import Annotated, Any

from fastapi import Body, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from api.auth import LedgerRouter, SqlReader
from api.examples import sql as examples
from api.params import RequestedFormat
from api.question_bounds import IN_SQL_TURN
from api.response_models import documented
from api.serialization import jsonable, plain_rows, record_question, respond
from warehouse.ad_hoc.answers import Bounds
from warehouse.ad_hoc.gate import MAX_SQL
from warehouse.read_only_sql import answer_to, readable_columns
from warehouse.results import SqlColumn

router = LedgerRouter(prefix="/v1", tags=["sql"])


class SqlQuestion(BaseModel):
    """A question, and what it may take."""

    model_config = ConfigDict(extra="forbid")

    query: Annotated[str, Field(min_length=1, max_length=MAX_SQL, examples=["SELECT count() FROM ledger FINAL"])]
    limit: Annotated[int, Field(ge=1, le=100_000, description="A result with more rows is refused, not cut.")] = 10_000
    timeout_s: Annotated[int, Field(ge=1, le=60)] = 30


class SqlAnswer(BaseModel):
    """The answer. Times are RFC 3339 in UTC, decimals are strings, and 64-bit integers stay integers."""

    columns: list[str]
    rows: list[list[Any]]


class SqlColumns(BaseModel):
    """Columns that the caller's questions may name."""

    rows: list[SqlColumn]
    next: None = None


@router.get("/sql", responses=documented(SqlColumns, examples.COLUMNS))
def sql_columns(request: Request, reader: SqlReader, format_: RequestedFormat = None) -> Response:
    """Tables and columns that the caller may ask in SQL."""
    rows = plain_rows(readable_columns(reader))
    return respond(request, format_, rows, [field.name for field in fields(SqlColumn)])


@router.post("/sql", responses=documented(SqlAnswer, examples.ANSWER, 429), dependencies=[IN_SQL_TURN])
def sql(request: Request, reader: SqlReader, question: Annotated[SqlQuestion, Body()]) -> Response:
    """One SELECT over the caller's rows: all of them for an operator, a tenant's own. Functions are on a list.

    A caller has one question at a time, and 429 says when to ask again. The server runs two; others wait.
    """
    record_question(request, question.query)
    answer = answer_to(reader, question.query, Bounds(rows=question.limit, timeout_s=question.timeout_s))
    return JSONResponse(jsonable({"columns": answer.columns, "rows": answer.rows}))
