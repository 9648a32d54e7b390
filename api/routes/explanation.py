"""Explanation of a charge: every factor from the measurements to the price."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query
from fastapi.responses import JSONResponse, Response

from api.auth import LedgerRouter, MoneyReader
from api.examples import ledger as examples
from api.params import Tenant
from api.response_models import documented
from api.serialization import plain
from warehouse.ledger.explained_charge import Explanation, OwnExplanation
from warehouse.ledger.explanation import explain as explain_charge

router = LedgerRouter(prefix="/v1", tags=["drill-down"])


@router.get("/explain", responses=documented(Explanation | OwnExplanation, examples.EXPLAIN, 404))
def explain(
    reader: MoneyReader,
    tenant: Tenant = None,
    window: Annotated[
        str, Query(max_length=40, description="`latest`, or RFC 3339: the window that contains it.")
    ] = "latest",
) -> Response:
    """A tenant's charge of one window: its share of work, the GPUs' intervals, idle floor, weights and prices. A tenant
    sees its own figures, and its share as a ratio."""
    return JSONResponse(plain(explain_charge(reader, tenant, window)))
