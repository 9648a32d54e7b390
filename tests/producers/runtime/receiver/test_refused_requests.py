"""Requests that are refused: the log names each cause at a bounded rate, and no value that a client sent."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from producers.receivers.plugin import HttpConfig
from producers.runtime.receiver.server import RequestLimits
from tests.producers.gateways.payloads import SECRET
from tests.producers.runtime.receiver.listener import EVENTS, MANY, event, listening, token
from tests.producers.runtime.receiver.listener import SECRET as KEY


def test_each_kind_of_refusal_is_logged_once_a_minute_with_its_cause(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with listening(tmp_path, key=KEY, max_waiting=1) as listener:
        for _ in range(3):
            assert listener.post(event()).status_code == 401
            assert listener.post(event(tenant="globex"), authorization=token(tenant="acme")).status_code == 403
    lines = [record.getMessage() for record in caplog.records if EVENTS in record.getMessage()]
    assert lines == [
        f"{EVENTS}: refused with 401: Send a bearer token: Authorization: Bearer ...",
        f"{EVENTS}: refused with 403: tenant: 'globex': this token's events are its own tenant's; "
        "leave the tenant out.",
    ]


def test_a_request_without_room_is_logged_with_its_cause(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with listening(tmp_path, limits=RequestLimits(ack_s=0.05)) as listener:
        listener.broker.silent = True
        assert listener.post(event()).status_code == 503
    assert f"{EVENTS}: refused with 503: The brokers have not acknowledged this" in caplog.text


@pytest.mark.parametrize(
    "body",
    [
        [event(time=SECRET)], [event(id=[SECRET])], [event(data={"duration_seconds": SECRET})], [SECRET], SECRET,
        {"x": SECRET}, [event(specversion=SECRET)], [event(traceparent=SECRET, time=7)],
    ],
)  # fmt: skip
def test_the_log_quotes_no_value_of_an_event(tmp_path: Path, caplog: pytest.LogCaptureFixture, body: object) -> None:
    caplog.set_level(logging.DEBUG)
    from producers.receivers.cloudevents.meter_rules import MeterRule

    rules = [MeterRule(slug="s", event_type="request", value="$.duration_seconds", unit="s")]
    with listening(tmp_path, rules=rules) as listener:
        assert listener.post(body, MANY).status_code == 422
        assert listener.post(SECRET.encode(), MANY).status_code == 422
    assert "left out: a request: " in caplog.text
    assert SECRET not in caplog.text


def test_texts_of_events_that_no_meter_names_are_not_stored(tmp_path: Path) -> None:
    with listening(tmp_path) as listener:
        assert listener.post(event(data={"prompt": SECRET, "messages": [SECRET]})).status_code == 202
        assert SECRET not in repr(listener.broker.stored)
    assert SECRET.encode() not in b"".join(path.read_bytes() for path in tmp_path.iterdir() if path.is_file())


def test_a_batch_of_a_collectors_default_size_is_taken_by_default() -> None:
    assert HttpConfig.model_construct().max_body_bytes == RequestLimits().body_bytes == 16 * 2**20


def test_bodies_under_way_together_have_a_bound(tmp_path: Path) -> None:
    with listening(tmp_path, limits=RequestLimits(buffered_bytes=2_000)) as listener:
        assert listener.post([event(str(n)) for n in range(20)], MANY).status_code == 429
        for n in range(20):  # What a request held is free again.
            assert listener.post(event(str(n))).status_code == 202
