"""`create_app`: assembles the API from its routers, middleware and shared state."""

from __future__ import annotations

import time
from collections.abc import Callable

from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from access.audit_log import AuditLog
from api import problems
from api.auth import CallerReaders, LedgerRouter
from api.head_requests import HeadRequests
from api.host_guard import HostGuard
from api.known_parameters import KNOWN_PARAMETERS
from api.metrics import HttpMetrics, LedgerCollector
from api.openapi import describe
from api.question_bounds import IN_TURN, QuestionBounds, SharedQuestion, sql_bounds
from api.routes import ROUTERS
from api.single_flight import SingleFlightCache
from contracts.settings import Settings
from warehouse.client import Warehouse

VERSION = "0.1.0"


def create_app(warehouse: Warehouse, settings: Settings, *, now_s: Callable[[], float] = time.time) -> FastAPI:
    """Build the API and its page over an open warehouse, which the caller closes.

    `now_s` is the clock for the age of the ledger in /metrics. Raises BadSetting for an unusable key. Call
    `check_exposure(settings)` before listening.
    """
    app = FastAPI(
        title="Wattlog",
        version=VERSION,
        docs_url=None,
        redoc_url=None,
        summary="An energy ledger for AI inference fleets.",
        description="Energies are integer microjoules, money and kWh decimal strings, times RFC 3339 in UTC. "
        "Errors are RFC 9457 problems.",
    )
    app.state.settings = settings
    app.state.readers = CallerReaders(settings, warehouse)
    app.state.audit_log = AuditLog(settings.audit_log_path)
    app.state.report_cache = SingleFlightCache()
    app.state.registry = CollectorRegistry()
    app.state.registry.register(LedgerCollector(warehouse, now_s))
    app.state.readiness = SharedQuestion(app.state.readers.newest)
    app.state.questions, app.state.sql_questions = QuestionBounds(), sql_bounds()
    for router in ROUTERS:
        turn = [IN_TURN] if isinstance(router, LedgerRouter) else []
        app.include_router(router, dependencies=[*turn, KNOWN_PARAMETERS])
    problems.install(app)
    describe(app, ROUTERS)
    app.add_middleware(HeadRequests)
    # The middleware added last is the outermost: requests that HostGuard refuses are counted, too.
    app.add_middleware(HostGuard, host=settings.api_host)
    app.add_middleware(HttpMetrics, registry=app.state.registry)
    return app
