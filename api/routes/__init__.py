"""Routes of the API, one module per subject."""

from fastapi.routing import APIRoute

from api.auth import LedgerRouter
from api.routes import (
    anomalies,
    balance,
    bills,
    chargeback,
    explanation,
    fleet,
    forecast,
    latency,
    ledger,
    operations,
    page,
    reconciliation,
    reference,
    requests,
    sessions,
    sql,
    usage,
)

LEDGER_ROUTERS: tuple[LedgerRouter, ...] = (
    *(
        module.router
        for module in (
            chargeback, bills, balance, fleet, latency, ledger, requests, explanation, usage, sessions, forecast,
            anomalies, reconciliation, reference, sql,
        )
    ),
    operations.metrics_router,
)  # fmt: skip
"""Routers whose routes need a reader of their caller."""
PUBLIC_ROUTERS = (operations.router, page.router)
"""Routers that answer without a token: health, and the files of the page."""
PUBLIC_PATHS = frozenset({"/healthz", "/readyz", "/", "/static/{name}"})
ROUTERS = (*LEDGER_ROUTERS, *PUBLIC_ROUTERS)
"""All routers, in the order of the OpenAPI document."""

if exposed := {r.path for router in PUBLIC_ROUTERS for r in router.routes if isinstance(r, APIRoute)} - PUBLIC_PATHS:
    raise TypeError(f"{', '.join(sorted(exposed))}: anybody could read them; put them on a LedgerRouter")
