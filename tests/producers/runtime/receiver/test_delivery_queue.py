"""Accepted means acknowledged: responses, and events on the log, when brokers are away, refuse or die."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts import codec
from contracts.errors import BadSetting, Unavailable
from contracts.settings import Settings
from producers.api import WorkloadBatch
from producers.runtime.batching import UsageRow, usage_batch
from producers.runtime.clock import SystemClock
from producers.runtime.delivery import Delivery
from producers.runtime.receiver.delivery_queue import DeliveryQueue, PendingRequest
from producers.runtime.receiver.messages import MAX_MESSAGE_BYTES, unnumbered_messages
from producers.runtime.receiver.problems import Rejected
from producers.runtime.receiver.server import RequestLimits
from producers.runtime.runner import run
from producers.runtime.spool import Outgoing, Spool, SpoolFull
from tests.contracts.batches import same
from tests.producers.conftest import Consume
from tests.producers.frame import findings
from tests.producers.runtime.receiver.listener import MANY, NOW_MS, UsageBroker, event, listening, rows
from tests.support.clocks import FakeClock, FixedWallClock
from tests.support.waiting import HANG_S, wait_until

QUICK = RequestLimits(ack_s=0.2)
SOURCE = "cloudevents-usage://c1/n1/external"


def ids(broker: UsageBroker) -> list[str]:
    return [row["event_id"] for row in broker.rows]


def order(name: str, workload: str = "w", answers: list[Any] | None = None, rows: int = 1) -> PendingRequest:
    row = UsageRow(meter="m", unit="1", quantity="1", t0_ms=1, t1_ms=1, event_id=name)
    batch = usage_batch([row] * rows, 0)
    messages = unnumbered_messages("x", "n", [WorkloadBatch("c", workload, batch)])
    return PendingRequest(messages, lambda error: None if answers is None else answers.append(error))


def test_a_request_is_answered_only_after_the_brokers_have_acknowledged_it(tmp_path: Path) -> None:
    with listening(tmp_path) as listener:
        listener.broker.silent = True
        answers: list[int] = []
        asking = threading.Thread(target=lambda: answers.append(listener.post(event()).status_code))
        asking.start()
        wait_until(lambda: listener.broker.tries == 1)
        assert answers == []
        listener.broker.silent = False
        asking.join()
        assert answers == [202]
        assert listener.count("rows_total", route="/api/v1/events") == 1


def test_a_request_without_an_acknowledgement_is_refused_and_its_repetition_counts_once(tmp_path: Path) -> None:
    with listening(tmp_path, limits=QUICK) as listener:
        listener.broker.silent = True
        answer = listener.post(event())
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert answer.json()["type"] == "urn:wattlog:problem:not-acknowledged"
        listener.broker.silent = False
        listener.be_patient()
        assert listener.post(event()).status_code == 202
        # Two copies of one row: the warehouse counts rows of equal origin, event_id and meter once.
        assert {(r["origin"], r["event_id"], r["meter"]) for r in listener.broker.rows} == {
            ("service-0", "00001", "request")
        }
        assert listener.broker.numbers() == {(SOURCE, NOW_MS): [0, 1]}


def test_a_message_that_the_brokers_refuse_is_sent_again_under_its_own_number(tmp_path: Path) -> None:
    with listening(tmp_path, limits=QUICK) as listener:
        listener.broker.refuses = "Broker: not enough replicas"
        assert listener.post(event("1")).status_code == 503
        assert listener.post(event("2")).status_code == 503
        listener.broker.refuses = ""
        wait_until(lambda: listener.line.waiting == 0)
        assert sorted(ids(listener.broker)) == ["1", "2"]
        assert {k: sorted(v) for k, v in listener.broker.numbers().items()} == {(SOURCE, NOW_MS): [0, 1]}
        assert listener.count("resent_total") >= 1


def test_a_broken_kafka_client_leaves_all_messages_on_disk(tmp_path: Path) -> None:
    with listening(tmp_path, limits=QUICK) as listener:
        listener.broker.full = True
        assert listener.post(event()).status_code == 503
        listener.broker.full = False
        wait_until(lambda: listener.line.waiting == 0)
        assert ids(listener.broker) == ["00001"]


def test_the_queue_is_bounded_and_refusals_at_the_bound_are_counted(tmp_path: Path) -> None:
    with listening(tmp_path, limits=QUICK, max_waiting=2) as listener:
        listener.broker.silent = True
        kinds = [listener.post(event(str(n))).json()["type"].rpartition(":")[2] for n in range(4)]
        assert kinds == ["not-acknowledged", "not-acknowledged", "queue-full", "queue-full"]
        assert listener.count("rejected_total", route="/api/v1/events", reason="queue-full") == 2
        listener.broker.silent = False
        wait_until(lambda: listener.line.waiting == 0)
        assert ids(listener.broker) == ["0", "1"]


def test_a_full_disk_refuses_requests_and_leaves_no_gap_in_the_numbers(tmp_path: Path) -> None:
    spool, broker, answers = Spool(tmp_path / "s.db", max_bytes=1_500), UsageBroker(), list[Any]()
    line = DeliveryQueue(FixedWallClock(NOW_MS), max_waiting=100)
    line.start(Delivery(spool, broker, on_acknowledged=line.acknowledge), threaded=False)
    broker.silent = True
    for item in (order("first", answers=answers), order("big", answers=answers, rows=300)):
        line._inbox.put(item)
        line.step()
    assert [type(answer) for answer in answers] == [SpoolFull]
    broker.silent = False
    line._inbox.put(order("small", answers=answers))
    line.close()
    assert answers[1:] == [None, None]
    assert [e.seq for e in broker.stored] == [0, 1]
    spool.close()


def test_concurrent_requests_are_stored_together_and_answered_each(tmp_path: Path) -> None:
    spool, broker, answers = Spool(tmp_path / "s.db"), UsageBroker(), list[Any]()
    offered: list[int] = []

    class Counting(Delivery):
        def offer(self, messages: Sequence[Outgoing], checkpoints: Any = None) -> range:
            offered.append(len(messages))
            return super().offer(messages, checkpoints)

    line = DeliveryQueue(FixedWallClock(NOW_MS), max_waiting=100, max_sources=2)
    line.start(Counting(spool, broker, on_acknowledged=line.acknowledge), threaded=False)
    for name, workload in (("1", "a"), ("2", "b"), ("3", "a"), ("4", "c")):
        line._inbox.put(order(name, workload, answers))
    line.close()
    assert offered == [3]
    assert [answer.kind if answer else None for answer in answers] == ["too-many-workloads", None, None, None]
    assert [(e.source, e.seq) for e in broker.stored] == [
        ("x-usage://c/n/a", 0),
        ("x-usage://c/n/b", 0),
        ("x-usage://c/n/a", 1),
    ]
    spool.close()


def test_a_sender_with_too_many_workloads_leaves_room_for_others(tmp_path: Path) -> None:
    spool, broker, answers = Spool(tmp_path / "s.db"), UsageBroker(), list[Any]()
    line = DeliveryQueue(FixedWallClock(NOW_MS), max_waiting=100, max_sources=1)
    line.start(Delivery(spool, broker, on_acknowledged=line.acknowledge), threaded=False)
    for workload, sender in (("a", "x"), ("b", "x"), ("b", "y"), ("a", "x")):
        request = order(workload, workload, answers)
        request.sender = sender
        line._inbox.put(request)
    line.close()
    assert [answer.kind if answer else None for answer in answers] == ["too-many-workloads", None, None, None]
    assert "'x'" in answers[0].log_text
    spool.close()


def test_requests_without_room_together_are_refused_with_a_retry(tmp_path: Path) -> None:
    """413 would be final: exporters drop what got it."""
    spool, broker, answers = Spool(tmp_path / "s.db"), UsageBroker(), list[Any]()
    broker.silent = True
    delivery_queue = DeliveryQueue(FixedWallClock(NOW_MS), max_waiting=2)
    delivery_queue.start(Delivery(spool, broker, on_acknowledged=delivery_queue.acknowledge), threaded=False)
    for name in ("1", "2", "3"):
        delivery_queue._inbox.put(order(name, answers=answers))
    delivery_queue.step()
    assert [(answer.status, answer.kind) for answer in answers] == [(503, "queue-full")]
    spool.close()


def test_another_run_sends_unacknowledged_messages_under_their_old_numbers(tmp_path: Path) -> None:
    spool, lost = Spool(tmp_path / "s.db"), UsageBroker()
    lost.silent = True
    first = DeliveryQueue(FixedWallClock(NOW_MS), max_waiting=100)
    first.start(Delivery(spool, lost, on_acknowledged=first.acknowledge), threaded=False)
    first._inbox.put(order("1"))
    first.step()  # and the process is killed before an answer arrives
    broker, second = UsageBroker(), DeliveryQueue(SystemClock(threading.Event()), max_waiting=100)
    second.start(Delivery(spool, broker, on_acknowledged=second.acknowledge), threaded=False)
    second.close()
    assert [(e.epoch, e.seq, rows(e)[0]["event_id"]) for e in broker.stored] == [(NOW_MS, 0, "1")]
    spool.close()


STEPS = st.lists(
    st.sampled_from(["a", "b", "together", "stored", "refused", "silent", "no room", "killed"]), min_size=1, max_size=30
)


@given(steps=STEPS)
def test_accepted_events_are_on_the_log_without_gaps_through_kills_and_outages(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str]
) -> None:
    """A client repeats an order until it is accepted, while runs are killed and brokers fail."""
    spool, clock = Spool(tmp_path_factory.mktemp("spool") / "s.db"), FakeClock(now_ms=NOW_MS, epoch_ms=0)
    log, accepted, sent = UsageBroker(), set[str](), list[tuple[str, str]]()

    def run() -> DeliveryQueue:
        clock.now_ms += 10_000
        log.forget()
        line = DeliveryQueue(clock, max_waiting=1_000)
        line.start(Delivery(spool, log, max_in_flight=3, on_acknowledged=line.acknowledge), threaded=False)
        return line

    def send(line: DeliveryQueue, name: str, workload: str) -> None:
        batch = order(name, workload)
        batch.answer = lambda error: accepted.add(name) if error is None else None
        line._inbox.put(batch)

    line = run()
    for step in steps:
        if step in ("a", "b", "together"):
            for workload in "ab" if step == "together" else step:
                sent.append((f"{len(sent)}", workload))
                send(line, *sent[-1])
            line.step(0)
            continue
        log.refuses, log.silent = ("no" if step == "refused" else ""), step == "silent"
        spool.max_bytes = 0 if step == "no room" else 2**20
        if step == "killed":
            line = run()
        clock.now_ms += 1_000
        line.step(0)
        line.step(0)
    log.refuses, log.silent, spool.max_bytes = "", False, 2**20
    for name, workload in sent:
        if name not in accepted:
            send(line, name, workload)
    for _ in range(3 * len(sent) + 3):
        clock.now_ms += 1_000
        line.step(0)
    assert accepted == {name for name, _ in sent}
    assert set(ids(log)) == accepted
    assert all(sorted(set(numbers)) == list(range(len(set(numbers)))) for numbers in log.numbers().values())
    assert line.waiting == 0
    spool.close()


def test_a_failed_queue_refuses_requests_and_reports_itself_unhealthy(tmp_path: Path) -> None:
    with listening(tmp_path) as listener:
        assert listener.client.get("/healthz").json()["status"] == "ok"
        listener.line.fail(Unavailable("Kafka does not take the message: fenced", "Restart this producer."))
        assert listener.post(event()).status_code == 503
        assert listener.client.get("/healthz").status_code == 503


def test_waiting_requests_are_answered_when_the_delivery_ends(tmp_path: Path) -> None:
    with listening(tmp_path) as listener:

        def breaks(*_: object, **__: object) -> None:
            raise ZeroDivisionError

        listener.broker.poll = breaks  # type: ignore[method-assign]
        answer = listener.post(event())
        assert (answer.status_code, "division" in answer.text) == (503, False)
        wait_until(lambda: listener.line.failed is not None)


@pytest.mark.parametrize(
    ("batch", "field"),
    [
        (
            WorkloadBatch("a/b", "w", usage_batch([UsageRow(meter="m", unit="1", quantity="1", t0_ms=1, t1_ms=1)], 0)),
            "cluster",
        ),
        (
            WorkloadBatch("c", "", usage_batch([UsageRow(meter="m", unit="1", quantity="1", t0_ms=1, t1_ms=1)], 0)),
            "workload",
        ),
        (
            WorkloadBatch(
                "c", "é" * 253, usage_batch([UsageRow(meter="m", unit="1", quantity="1", t0_ms=1, t1_ms=1)], 0)
            ),
            "workload",
        ),
        (
            WorkloadBatch("c", "w", usage_batch([UsageRow(meter="m", unit="", quantity="1", t0_ms=1, t1_ms=1)], 0)),
            "unit",
        ),
    ],
)
def test_an_invalid_batch_is_refused_before_it_has_a_number(batch: WorkloadBatch, field: str) -> None:
    with pytest.raises(Exception, match=field):
        unnumbered_messages("x", "n", [batch])


def test_a_message_that_gets_its_number_keeps_its_body() -> None:
    batch = WorkloadBatch("c", "w", usage_batch([UsageRow(meter="m", unit="1", quantity="1", t0_ms=1, t1_ms=1)], 0))
    (message,) = unnumbered_messages("x", "n", [batch])
    numbered = message.renumber(7, 3)
    event = codec.decode(numbered.headers, numbered.value)
    assert (event.epoch, event.seq, message.source) == (7, 3, event.source)
    assert same(event.batch, batch.batch)
    assert numbered.value is message.value
    assert numbered.size < message.size


def test_a_row_larger_than_a_message_is_refused(tmp_path: Path) -> None:
    many = [
        UsageRow(meter="m" * 200, unit="1", quantity="1", t0_ms=1, t1_ms=1, event_id=f"{n:0>200}")
        for n in range(MAX_MESSAGE_BYTES // 400)
    ]
    with pytest.raises(Rejected, match="fit into no message"):
        unnumbered_messages("x", "n", [WorkloadBatch("c", "w", usage_batch(many, 0))])


@pytest.fixture
def configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broker: str) -> Settings:
    """Settings of a receiver at the in-process broker, on a free port."""
    monkeypatch.setenv("WATTLOG_CONFIG", str(tmp_path / "none.toml"))
    monkeypatch.setenv("WATTLOG_HTTP_PORT", "0")
    return Settings(kafka_bootstrap=broker, data=tmp_path, cluster="c1", node="n1")


def test_the_producer_delivers_events_to_kafka_and_ends_on_a_stop(configured: Settings, consume: Consume) -> None:
    import httpx

    stop, addresses = threading.Event(), list[str]()
    up = threading.Event()

    def listening_at(address: str) -> None:
        addresses.append(address)
        up.set()

    producing = threading.Thread(target=run, args=("http", configured, stop), kwargs={"on_listening": listening_at})
    producing.start()
    try:
        assert up.wait(HANG_S)
        with httpx.Client(base_url=addresses[0], timeout=HANG_S) as client:
            answer = client.post(
                "/api/v1/events", json=[event("1", time=None), event("2", time=None)], headers={"Content-Type": MANY}
            )
            assert answer.status_code == 202
            assert len(consume("wattlog.usage.v1", 1)) == 1
            assert client.get("/healthz").json() == {"status": "ok", "waiting_events": 0}
    finally:
        stop.set()
        producing.join(HANG_S)
    assert not producing.is_alive()


def test_requests_in_progress_are_answered_on_a_stop(configured: Settings) -> None:
    import httpx

    stop, addresses, up, answers = threading.Event(), list[str](), threading.Event(), list[int]()

    def listening_at(address: str) -> None:
        addresses.append(address)
        up.set()

    options = {"on_listening": listening_at, "kafka": {"linger.ms": 700}}
    producing = threading.Thread(target=run, args=("http", configured, stop), kwargs=options)
    producing.start()
    assert up.wait(HANG_S)
    sending = threading.Thread(
        target=lambda: answers.append(
            httpx.post(f"{addresses[0]}/api/v1/events", json=event(time=None), timeout=HANG_S).status_code
        )
    )
    sending.start()
    wait_until(lambda: httpx.get(f"{addresses[0]}/healthz", timeout=HANG_S).json()["waiting_events"] == 1)
    stop.set()
    producing.join(HANG_S)
    sending.join(HANG_S)
    assert answers == [202]


def test_a_port_in_use_is_reported(configured: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server_socket:
        monkeypatch.setenv("WATTLOG_HTTP_PORT", str(server_socket.getsockname()[1]))
        with pytest.raises(Unavailable, match="cannot listen"):
            run("http", configured, threading.Event())


def test_doctor_shows_the_address_of_the_receiver_or_the_failure(
    configured: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    takes = (
        "takes /v1/requests, /api/v1/events, /v1/traces, /v1/metrics, /v1/logs, /litellm from anybody on this machine"
    )
    assert findings("http", configured) == [("127.0.0.1:0", takes)]
    monkeypatch.setenv("WATTLOG_HTTP_HOST", "0.0.0.0")
    [(_, error)] = findings("http", configured)
    assert isinstance(error, BadSetting)
    monkeypatch.delenv("WATTLOG_HTTP_HOST")
    monkeypatch.delenv("WATTLOG_HTTP_PORT")
    assert findings("http", configured) == []
