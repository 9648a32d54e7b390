"""Requests from an access log: its lines, the workload of each, and a log that grows, rotates and breaks off."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import pytest
from confluent_kafka import Consumer, TopicPartition
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from pydantic import ValidationError

from cli.health_checks import run_checks
from contracts import codec, topics
from contracts.errors import BadInput, BadSetting, Unavailable
from contracts.events import MAX_TOKENS, TokenBatch
from contracts.settings import Settings
from producers.gateways.accesslog.lines import LineReader, LineRules
from producers.gateways.accesslog.source import READ_BYTES, AccessLog, AccessLogCheckpoint
from producers.gateways.deployments import MAX_UNMATCHED, Deployment, Deployments
from producers.gateways.request_fields import RequestFields, RequestReader
from producers.runtime.batching import RequestRow, token_batch
from producers.runtime.delivery import Delivery
from producers.runtime.poll_loop import PollLoop, PollLoopMetrics
from producers.runtime.runner import run
from producers.runtime.spool import Spool
from tests.support.brokers import FakeBroker
from tests.support.clocks import T0, FakeClock, clock_at

GOOD: dict[str, Any] = {
    "id": "r1", "tenant": "acme", "model": "llama", "start": T0, "end": T0 + 3_000, "prompt_tokens": 100,
    "completion_tokens": 20,
}  # fmt: skip


def line(**more: Any) -> bytes:
    fields = {k: v for k, v in (GOOD | more).items() if v is not ...}
    return json.dumps(fields).encode() + b"\n"


def read(**more: Any) -> RequestRow:
    return RequestReader(RequestFields()).read(line(**more), "f-0")


# -- a line ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("request_id", ["x" * 254, "a\nb", {"nested": 1}], ids=["too long", "not printable", "no text"])
def test_a_client_cannot_keep_its_request_off_the_bill_with_a_strange_id(request_id: object) -> None:
    row = read(id=request_id, session_id=request_id, trace_id=request_id)
    assert (row.request_id, row.session_id, row.trace_id, row.prompt_tokens) == ("f-0", "", "", read().prompt_tokens)


def test_a_line_is_a_request() -> None:
    assert read(session_id="s", trace_id="t", cached_tokens=30, first=T0 + 500) == RequestRow(
        tenant="acme",
        model="llama",
        request_id="r1",
        t_start_ms=T0,
        t_first_ms=T0 + 500,
        t_end_ms=T0 + 3_000,
        prompt_tokens=100,
        cached_tokens=30,
        completion_tokens=20,
        status="ok",
        session_id="s",
        trace_id="t",
    )


def test_fields_may_be_nested_and_renamed() -> None:
    nested = {"usage": {"prompt_tokens": 7, "completion_tokens": 8, "prompt_tokens_details": {"cached_tokens": 3}}}
    row = read(prompt_tokens=..., completion_tokens=..., **nested)
    assert (row.prompt_tokens, row.cached_tokens, row.completion_tokens) == (7, 3, 8)
    team = RequestReader(RequestFields(tenant=("auth.team",))).read(line(auth={"team": "globex"}), "f-0")
    assert team.tenant == "globex"


@pytest.mark.parametrize(
    ("times", "start_ms", "end_ms"),
    [
        ({"start": T0 / 1000, "end": T0 / 1000 + 2.5}, T0, T0 + 2_500),
        ({"start": "2023-11-14T22:13:20Z", "end": "2023-11-14T23:13:21.5+01:00"}, T0, T0 + 1_500),
        ({"start": "2023-11-14T22:13:20", "end": ..., "duration_ms": 40.4}, T0, T0 + 40),
        ({"start": ..., "end": T0, "duration_ms": 1_000}, T0 - 1_000, T0),
    ],
)
def test_times_are_read_in_many_formats(times: dict[str, Any], start_ms: int, end_ms: int) -> None:
    row = read(**times)
    assert (row.t_start_ms, row.t_end_ms) == (start_ms, end_ms)


@pytest.mark.parametrize("first", [T0 - 1, T0 + 4_000])
def test_a_first_token_outside_of_its_request_is_unknown(first: int) -> None:
    assert read(first=first).t_first_ms == 0


@pytest.mark.parametrize(
    ("value", "status"), [("success", "ok"), (200, "ok"), (True, "ok"), (500, "500"), ("timeout", "timeout")]
)
def test_a_status_is_ok_or_a_failure(value: object, status: str) -> None:
    assert read(status=value).status == status


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"tenant": ...}, "tenant"), ({"tenant": "__idle__"}, "tenant"), ({"tenant": {"id": 1}}, "tenant"),
        ({"model": "a\nb"}, "model"), ({"prompt_tokens": -1}, "prompt_tokens"),
        ({"prompt_tokens": 1.5}, "prompt_tokens"),
        ({"prompt_tokens": MAX_TOKENS + 1}, "prompt_tokens"), ({"completion_tokens": ...}, "completion_tokens"),
        ({"cached_tokens": 101}, "cached_tokens"), ({"end": T0 - 1}, "end"), ({"end": T0 + 7 * 3_600_000}, "end"),
        ({"start": "yesterday"}, "start"), ({"start": ..., "end": ...}, "start"), ({"end": ...}, "end"),
        ({"start": True}, "start"), ({"duration_ms": -1, "end": ...}, "duration_ms"),
    ],
)  # fmt: skip
def test_a_wrong_field_is_named(wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(BadInput) as error:
        read(**wrong)
    assert error.value.field == named


@given(st.binary(max_size=80) | st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda c: st.lists(c, max_size=3) | st.dictionaries(st.sampled_from(sorted(GOOD)), c, max_size=5), max_leaves=12,
).map(lambda v: json.dumps(v).encode()))  # fmt: skip
def test_any_line_is_read_or_refused(content: bytes) -> None:
    try:
        row = RequestReader(RequestFields()).read(content, "f-0")
    except BadInput:
        return
    token_batch([row], 0).check()


# -- which workload ----------------------------------------------------------------------------------------------------


def row(model: str = "llama", api_base: str = "", route: str = "") -> RequestRow:
    return RequestRow(
        tenant="acme",
        model=model,
        request_id="r",
        t_start_ms=T0,
        t_first_ms=0,
        t_end_ms=T0 + 1,
        prompt_tokens=1,
        cached_tokens=0,
        completion_tokens=1,
        api_base=api_base,
        route=route,
    )


def test_the_first_matching_rule_names_the_workload() -> None:
    rules = [
        Deployment(workload="chat", model="llama*", api_base="http://a:*"),
        Deployment(workload="code", route="code", cluster="west"),
        Deployment(workload="rest", model="*"),
    ]
    groups = Deployments(rules, "east").group_by_workload([row(api_base="http://a:80"), row(route="code"), row()])
    assert {place: len(rows) for place, rows in groups.items()} == {
        ("east", "chat"): 1, ("west", "code"): 1, ("east", "rest"): 1,
    }  # fmt: skip


def test_requests_without_a_rule_are_kept_apart_and_reported_once() -> None:
    deployments = Deployments([Deployment(workload="llama", model="other")], "east")
    assert set(deployments.group_by_workload([row(), row(), row("qwen", "http://b")])) == {
        ("east", "unmatched/llama"), ("east", "unmatched/qwen"),
    }  # fmt: skip
    assert deployments.new_notes() == [
        "no rule of `deployments` names the workload of model 'llama': its requests show as unmetered",
        "no rule of `deployments` names the workload of model 'qwen', api_base 'http://b': "
        "its requests show as unmetered",
    ]
    assert deployments.new_notes() == []


def test_reported_names_are_bounded() -> None:
    deployments = Deployments([], "east")
    deployments.group_by_workload(row(f"m{n}") for n in range(2 * MAX_UNMATCHED))
    assert len(deployments.new_notes()) == MAX_UNMATCHED


def test_a_rule_without_conditions_is_refused() -> None:
    with pytest.raises(ValidationError, match="give at least one of"):
        Deployment(workload="chat")


# -- a log that grows --------------------------------------------------------------------------------------------------


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "access.jsonl"
    path.touch()
    return path


def source(path: Path, **more: Any) -> AccessLog:
    chat = Deployment(workload="chat", model="llama")
    return AccessLog(
        path, LineReader(LineRules(RequestFields())), Deployments([chat], "east"), **{"begin": "start", **more}
    )


def append(path: Path, *lines: bytes) -> None:
    with path.open("ab") as file:
        file.write(b"".join(lines))


class Follower:
    """Poll again and again, from checkpoint to checkpoint."""

    def __init__(self, log: AccessLog) -> None:
        self.log, self.mark, self.refused = log, None, []

    def ids(self) -> list[str]:
        """Ids of the requests polled until no more are there."""
        request_ids: list[str] = []
        while True:
            collected = self.log.collect(self.mark, clock_at(T0 + 10_000))
            self.mark = collected.checkpoint
            self.refused += collected.refused
            for batch in collected.batches:
                assert isinstance(batch.batch, TokenBatch)
                batch.batch.check()
                request_ids += batch.batch.request_id
            if not collected.more:
                return request_ids


def test_lines_are_read_when_they_are_complete(path: Path) -> None:
    follower = Follower(source(path))
    append(path, line(id="a"), line(id="b")[:-10])
    assert follower.ids() == ["a"]
    append(path, line(id="b")[-10:], b"\n", line(id="c"))
    assert follower.ids() == ["b", "c"]
    assert follower.ids() == []


def test_a_new_log_is_read_from_its_end_by_default(path: Path) -> None:
    append(path, line(id="a"))
    late = Follower(source(path, begin="end"))
    assert late.ids() == []
    append(path, line(id="b"))
    assert late.ids() == ["b"]


def test_a_renamed_log_is_read_to_its_end_before_the_new_one(path: Path) -> None:
    follower = Follower(source(path))
    append(path, line(id="a"))
    assert follower.ids() == ["a"]
    append(path, line(id="b"))
    old = path.rename(path.with_name("access.jsonl.1"))
    path.touch()
    append(old, line(id="c"))  # The gateway has not noticed yet.
    assert follower.ids() == ["b", "c"]
    append(old, line(id="d"))
    append(path, line(id="e"))
    assert follower.ids() == ["d", "e"]


def test_the_last_line_of_a_renamed_log_needs_no_line_end(path: Path) -> None:
    follower = Follower(source(path))
    append(path, line(id="a"), line(id="b").rstrip())
    assert follower.ids() == ["a"]
    path.rename(path.with_name("access.jsonl.1"))
    append(path, line(id="c"))
    assert follower.ids() == ["b", "c"]


def test_a_truncated_log_is_read_from_its_start(path: Path) -> None:
    follower = Follower(source(path))
    append(path, line(id="a"), line(id="b"))
    follower.ids()
    path.write_bytes(line(id="c"))
    assert follower.ids() == ["c"]


def test_an_invalid_line_is_reported_with_its_place_and_the_others_are_read(path: Path) -> None:
    follower = Follower(source(path))
    append(path, line(id="a"), b"{oops\n", line(id="b", tenant=...), b"\n", line(id="c"))
    assert follower.ids() == ["a", "c"]
    first, second = follower.refused
    assert f"{path}, byte {len(line(id='a'))}: line" in first
    assert "tenant" in second


def test_an_endless_line_is_refused_and_skipped(path: Path) -> None:
    follower = Follower(source(path))
    append(path, b'{"x": "' + b"y" * (READ_BYTES + 50), b'"}\n', line(id="a"))
    assert follower.ids() == ["a"]
    assert "longer than" in follower.refused[0]


def test_workloads_get_a_heartbeat_when_the_log_is_complete(path: Path) -> None:
    log = source(path)
    append(path, line(id="a"))
    first = log.collect(None, clock_at(T0 + 10_000))
    [batch] = log.collect(first.checkpoint, clock_at(T0 + 20_000)).batches
    assert (batch.workload, len(batch.batch), batch.batch.event_ms) == ("chat", 0, T0 + 20_000)


def test_workloads_of_an_earlier_run_get_a_heartbeat_without_a_request(path: Path) -> None:
    append(path, line(id="a"))
    earlier = source(path).collect(None, clock_at(T0 + 10_000))
    [batch] = source(path).collect(earlier.checkpoint, clock_at(T0 + 20_000)).batches
    assert (batch.workload, len(batch.batch), batch.batch.event_ms) == ("chat", 0, T0 + 20_000)


def test_a_checkpoint_of_a_version_without_workloads_is_read_on(path: Path) -> None:
    append(path, line(id="a"), line(id="b"))
    old = msgspec.msgpack.encode({"inode": path.stat().st_ino, "offset": len(line(id="a"))})
    [batch] = source(path).collect(old, clock_at(T0 + 20_000)).batches
    assert batch.batch.request_id == ("b",)


def test_a_missing_log_is_reported(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="No such file"):
        source(tmp_path / "none").collect(None, clock_at(T0))


def test_a_checkpoint_names_the_file_and_the_offset(path: Path) -> None:
    append(path, line(id="a"))
    mark = msgspec.msgpack.decode(source(path).collect(None, clock_at(T0)).checkpoint, type=AccessLogCheckpoint)
    assert mark == AccessLogCheckpoint(path.stat().st_ino, len(line(id="a")))


@given(st.lists(st.tuples(st.integers(1, 4), st.booleans(), st.booleans()), min_size=1, max_size=5))
def test_each_request_is_on_the_log_once_through_kills_and_renames(
    tmp_path_factory: pytest.TempPathFactory, runs: list[tuple[int, bool, bool]]
) -> None:
    folder = tmp_path_factory.mktemp("accesslog")
    path, log, time, sent = folder / "access.jsonl", FakeBroker(), FakeClock(10**9, 10_000), 0
    path.touch()
    for number, (rounds, log.silent, renames) in enumerate(runs):
        with closing(Spool(folder / "spool.db")) as spool:
            follow = PollLoop(
                [source(path)], Delivery(spool, log), time, spool.checkpoints(), PollLoopMetrics(CollectorRegistry())
            )
            for _ in range(rounds):
                append(path, *(line(id=f"r{sent + i}") for i in range(3)))
                sent += 3
                follow.poll_due()
                time.now_ms += 1_000
            if renames:
                path.rename(folder / f"access.jsonl.{number}")
                append(path, line(id=f"r{sent}"))
                sent += 1
                for _ in range(3):  # A log is read before the next one is renamed.
                    follow.poll_due()
                    time.now_ms += 1_000
        log.forget()  # Messages in flight are lost with the process, and their answers too.
    log.silent, time.end_ms = False, time.now_ms + 5_000
    with closing(Spool(folder / "spool.db")) as spool:
        PollLoop(
            [source(path)], Delivery(spool, log), time, spool.checkpoints(), PollLoopMetrics(CollectorRegistry())
        ).run()
    distinct = {(e.source, e.epoch, e.seq): e.batch for e in log.stored}  # as a worker sees them
    ids = [i for b in distinct.values() if isinstance(b, TokenBatch) for i in b.request_id]
    assert sorted(ids) == sorted(f"r{n}" for n in range(sent))


# -- the producer ------------------------------------------------------------------------------------------------------

CONFIG = """
[produce.accesslog]
path = "{path}"
begin = "start"
every_s = 0.1
[[produce.accesslog.deployments]]
model = "llama"
workload = "chat"
"""


@pytest.fixture
def settings(path: Path, broker: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    (tmp_path / "wattlog.toml").write_text(CONFIG.format(path=path))
    monkeypatch.setenv("WATTLOG_CONFIG", str(tmp_path / "wattlog.toml"))
    return Settings(data=tmp_path / "data", kafka_bootstrap=broker, cluster="east")


def test_requests_of_a_log_are_sent_until_the_producer_stops(
    settings: Settings, path: Path, broker: str, caplog: pytest.LogCaptureFixture
) -> None:
    consumer = Consumer({"bootstrap.servers": broker, "group.id": "test", "log_level": 0})
    requests: dict[str, str] = {}
    stop = threading.Event()
    thread = threading.Thread(target=run, args=("accesslog", settings, stop))
    thread.start()

    def read(until: Callable[[], bool]) -> None:
        while not until():
            assert thread.is_alive()
            if not consumer.assignment():
                consumer.assign([TopicPartition(topics.TOKENS, p, 0) for p in range(4)])
            for m in consumer.consume(10, timeout=0.1):
                event = codec.decode(m.headers(), m.value())
                assert isinstance(event.batch, TokenBatch)
                requests.update(dict.fromkeys(event.batch.request_id, f"{event.cluster}/{event.workload}"))

    append(path, line(id="a"), line(id="b", model="qwen"))
    read(lambda: len(requests) == 2)
    append(path, line(id="c"))
    read(lambda: len(requests) == 3)
    stop.set()
    thread.join()
    consumer.close()
    assert requests == {"a": "east/chat", "b": "east/unmatched/qwen", "c": "east/chat"}
    assert "no rule of `deployments` names the workload of model 'qwen'" in caplog.text


@pytest.mark.slow
def test_doctor_shows_a_line_of_the_log(settings: Settings, path: Path) -> None:
    def read_findings() -> list[tuple[str, str]]:
        findings = islice(run_checks(settings), 3)  # The remaining checks need the broker.
        return [(f.state, f.says) for f in findings if f.check == "accesslog"]

    good = ("ok", f"{path}: 1 request in its first megabyte, of chat")
    append(path, line(id="a"))
    assert read_findings() == [good]
    append(path, line(tenant=...))
    [(state, text), other] = read_findings()
    assert state == "failed"
    assert "1 of the 2 lines in its first megabyte cannot be read so" in text and "tenant" in text
    assert other == good  # The other lines count.


def test_a_missing_path_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WATTLOG_CONFIG", str(tmp_path / "none.toml"))
    with pytest.raises(BadSetting, match="say which file"):
        run("accesslog", Settings(), threading.Event())
