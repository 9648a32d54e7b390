"""A trouble that repeats is logged at once, then rarely and with a count."""

from __future__ import annotations

import logging

import pytest

from producers.runtime.publisher import Publisher
from producers.runtime.rare_log import RareLog


def test_the_first_line_is_logged_at_once_and_others_once_a_minute_with_a_count(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now_s = 0.0
    rare = RareLog(logging.getLogger("x"), lambda: now_s)
    for now_s in (0.0, 1.0, 59.0, 60.0, 61.0, 200.0):
        rare.write(logging.ERROR, f"at {now_s:g}")
    assert [record.message for record in caplog.records] == [
        "at 0", "at 60 (2 more before it)", "at 200 (1 more before it)",
    ]  # fmt: skip


def test_a_broker_that_is_away_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    publisher = Publisher({"bootstrap.servers": "127.0.0.1:1", "reconnect.backoff.ms": 10})
    while not caplog.records:
        publisher.poll(0.1)
    for _ in range(10):
        publisher.poll(0.1)
    (record,) = caplog.records
    assert "Connection refused" in record.message
