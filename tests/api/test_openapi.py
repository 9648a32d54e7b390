"""The API against its own OpenAPI document. Schemathesis generates the requests: no 5xx, and responses conform."""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)

from api.app import create_app
from contracts.settings import Settings
from tests.support.waiting import HANG_S
from warehouse.client import Warehouse

# Of schemathesis' dependencies, not of this project.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

EXAMPLES = 8
HOST = {"Host": "localhost"}
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    negative_data_rejection,
]


PATHS = [
    "/healthz",
    "/metrics",
    "/readyz",
    "/v1/anomalies",
    "/v1/balance",
    "/v1/bills",
    "/v1/bills/{month}",
    "/v1/bills/{month}/export",
    "/v1/bills/{month}/invoice",
    "/v1/chargeback",
    "/v1/efficiency",
    "/v1/explain",
    "/v1/fleet",
    "/v1/forecast",
    "/v1/latency",
    "/v1/latest",
    "/v1/ledger",
    "/v1/ledger/{cluster}/{workload}/{window_start}/intervals",
    "/v1/receipts/{request_id}",
    "/v1/reconciliation",
    "/v1/reference/{kind}",
    "/v1/requests",
    "/v1/sessions",
    "/v1/sessions/{session_id}",
    "/v1/sql",
    "/v1/usage",
]


@pytest.fixture
def document(books: Warehouse) -> Any:
    loaded = schemathesis.openapi.from_asgi("/openapi.json", create_app(books, Settings()), headers=HOST)
    loaded.config.base_url = "http://localhost"
    return loaded


def test_every_documented_route_is_tried(document: Any) -> None:
    assert sorted(document) == PATHS


@pytest.mark.slow
@pytest.mark.parametrize("path", PATHS)
def test_every_route_conforms_to_its_document(document: Any, path: str) -> None:
    @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(case=document[path]["GET"].as_strategy())
    def conforms(case: schemathesis.Case) -> None:
        case.call_and_validate(checks=CHECKS, headers=HOST, timeout=HANG_S)

    conforms()
