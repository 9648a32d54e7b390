"""Windows that late requests changed long after them: an audit names window, workload, senders and both totals."""

from __future__ import annotations

import time
from typing import Any

from contracts.units import MS_PER_DAY, MS_PER_HOUR
from tests.support.ledger_rows import HOUR, rows
from warehouse.audit.conservation import audit
from warehouse.audit.findings import LateRestatement
from warehouse.client import Warehouse
from warehouse.periods import Period
from warehouse.reader import operator_reader

PERIOD = Period(HOUR, HOUR + MS_PER_HOUR)


def restated(warehouse: Warehouse, max_age_ms: int, *requests: dict[str, Any]) -> list[LateRestatement]:
    warehouse.insert("request_energy", rows("request_energy", *requests))
    report = audit(operator_reader(warehouse), PERIOD, max_age_ms=max_age_ms)
    assert report.windows_restated_late == len(report.late_restatements)
    return report.late_restatements


IN_TIME = {"request_id": "r1", "sender": "gw", "prompt_tokens": 70, "completion_tokens": 30}
LATE = {"request_id": "r2", "sender": "idp|mallory", "completion_tokens": 2_000, "late_id": 8}


def test_a_window_is_named_with_the_senders_of_its_late_requests_and_its_tokens(warehouse: Warehouse) -> None:
    before_ms = time.time_ns() // 1_000_000
    [window] = restated(
        warehouse, 2 * MS_PER_DAY, IN_TIME, LATE, LATE | {"request_id": "r3", "workload": "code"} | {"late_id": 0}
    )
    assert (window.cluster, window.workload, window.window_start_ms) == ("eu", "chat", HOUR)
    assert (window.senders, window.late_requests) == (["idp|mallory"], 1)
    assert (window.tokens_before, window.tokens_after) == (100, 2_100)
    assert before_ms - 2_000 <= window.stored


def test_a_window_that_changed_within_the_limit_is_not_named(warehouse: Warehouse) -> None:
    assert restated(warehouse, 200 * 365 * MS_PER_DAY, IN_TIME, LATE) == []
