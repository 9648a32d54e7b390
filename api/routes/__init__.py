"""Routes of the API, one module per subject."""

from api.routes import (
    anomalies,
    balance,
    chargeback,
    explanation,
    fleet,
    forecast,
    ledger,
    operations,
    page,
    requests,
    sessions,
    usage,
)

ROUTERS = tuple(
    module.router
    for module in (
        chargeback,
        balance,
        fleet,
        ledger,
        requests,
        explanation,
        usage,
        sessions,
        forecast,
        anomalies,
        operations,
        page,
    )
)
"""All routers, in the order of the OpenAPI document."""
