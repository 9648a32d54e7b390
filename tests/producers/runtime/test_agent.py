"""The loop of a node's agent, with clock, hardware and broker under the test's control; and once on a real log."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from confluent_kafka import Message
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from contracts import codec, topics
from contracts.errors import Unavailable
from contracts.events import MAX_SPAN_MS, Event, Method, PowerBatch
from producers.bindings.apportion import Binding
from producers.gpu.readings import EnergyInterval, GpuReading
from producers.runtime.agent import Agent, AgentConfig
from producers.runtime.agent_metrics import AgentMetrics
from producers.runtime.backlog import Backlog
from producers.runtime.clock import Clock
from producers.runtime.delivery import Delivery, encode_message
from producers.runtime.event_sequence import heartbeat_batch
from producers.runtime.publisher import Publisher
from producers.runtime.spool import Spool
from tests.support.brokers import FakeBroker
from tests.support.clocks import T0, FakeClock
from tests.support.examples import examples

CHAT = Binding("chat", "acme")


class Gpus:
    """GPUs whose counters grow by 300 W; `alter` changes a reading, or drops it by None."""

    def __init__(self, *uuids: str) -> None:
        self.uuids = uuids
        self.alter: Callable[[GpuReading], GpuReading | None] = lambda reading: reading

    def readings(self, clock: Clock) -> Sequence[GpuReading]:
        now = clock.monotonic_ms()
        all_readings = (
            GpuReading(
                gpu_uuid=u,
                hardware="H100",
                t_ms=clock.wall_ms(),
                monotonic_ms=now,
                counter_mj=1000 + 300 * now,
                watts=300.0,
                utilisation=1.0,
            )
            for u in self.uuids
        )
        return [altered for reading in all_readings if (altered := self.alter(reading)) is not None]


NODE = AgentConfig("east", "n1", sample_ms=1000, publish_ms=5000, boot="this one")


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    with closing(Spool(tmp_path / "spool.db")) as spool:
        yield spool


def run(
    time: FakeClock,
    gpus: Gpus,
    log: FakeBroker,
    spool: Spool,
    bindings: Callable[[], Mapping[str, Binding]] = dict,
    node: AgentConfig = NODE,
) -> Agent:
    agent = Agent(node, gpus, Delivery(spool, log), time, bindings, checkpoints=spool.checkpoints())
    agent.run()
    return agent


def rows(events: Sequence[Event]) -> list[tuple[str, str, int, int, int]]:
    """(workload, gpu, t0, t1, energy) of every row, times counted from T0."""
    return [
        (event.workload, b.gpus[g][0], int(t0) - T0, int(t1) - T0, int(e))
        for event in events
        for b in [event.batch]
        if isinstance(b, PowerBatch)
        for g, t0, t1, e in zip(b.gpu, b.t0_ms, b.t1_ms, b.energy_uj, strict=True)
    ]


def test_each_publish_period_sends_one_batch_of_a_workloads_intervals(spool: Spool) -> None:
    time = FakeClock(10_000)
    log = FakeBroker(time)
    run(time, Gpus("a", "b"), log, spool, lambda: {"a": CHAT, "b": CHAT})
    assert [(e.source, e.seq, e.cluster, e.workload, len(e.batch)) for e in log.stored] == [
        ("nvml://east/n1/chat", 0, "east", "chat", 10), ("nvml://east/n1/chat", 1, "east", "chat", 10),
    ]  # fmt: skip
    assert {e.batch.owner for e in log.stored if isinstance(e.batch, PowerBatch)} == {"acme"}
    assert {e.epoch for e in log.stored} == {T0}
    assert sum(r[4] for r in rows(log.stored)) == 2 * 10 * 300_000_000


def test_an_unallocated_gpu_has_the_nodes_name_as_workload(spool: Spool) -> None:
    time = FakeClock(7_000)
    log = FakeBroker(time)
    run(time, Gpus("a", "b"), log, spool, lambda: {"a": CHAT})
    assert {(e.workload, r[1]) for e in log.stored for r in rows([e])} == {("chat", "a"), ("~n1", "b")}


def test_an_interval_is_charged_to_the_holder_at_its_start(spool: Spool) -> None:
    time = FakeClock(12_000)
    log = FakeBroker(time)
    run(time, Gpus("a"), log, spool, lambda: {"a": Binding("first" if time.now_ms < 6_000 else "second")})
    split = {w: (min(r[2] for r in got), max(r[3] for r in got)) for w in ("first", "second")
             if (got := [r for r in rows(log.stored) if r[0] == w])}  # fmt: skip
    assert split == {"first": (0, 6_000), "second": (6_000, 12_000)}


def test_a_workload_without_rows_sends_heartbeats_numbered_without_gaps(spool: Spool) -> None:
    time = FakeClock(16_000)
    log, gpus = FakeBroker(time), Gpus("a")
    gpus.alter = lambda r: replace(r, counter_mj=None, watts=None)
    run(time, gpus, log, spool, lambda: {"a": CHAT})
    assert [(e.seq, e.batch.event_ms - T0, len(e.batch)) for e in log.stored] == [
        (0, 5_000, 0), (1, 10_000, 0), (2, 15_000, 0), (3, 16_000, 0),
    ]  # fmt: skip


def test_a_message_that_the_broker_refuses_is_sent_again_unchanged(spool: Spool) -> None:
    time = FakeClock(30_000)
    log = FakeBroker(time, refuse_next=2)
    agent = run(time, Gpus("a"), log, spool)
    assert sorted(e.seq for e in log.stored) == list(range(len(log.stored)))
    assert sum(r[4] for r in rows(log.stored)) == 30 * 300_000_000
    assert agent.metrics.send_errors._value.get() == 2  # prometheus_client has no public read of one counter


def test_messages_wait_on_disk_in_order_while_the_broker_is_away(spool: Spool) -> None:
    time = FakeClock(3_600_000)
    log = FakeBroker(time, away_at=lambda now_ms: 10_000 < now_ms < 3_500_000)
    agent = run(time, Gpus("a", "b"), log, spool, lambda: {"a": CHAT, "b": CHAT})
    got = rows(log.stored)
    assert sum(r[4] for r in got) == 2 * 3_600 * 300_000_000
    assert [e.seq for e in log.stored] == list(range(len(log.stored)))
    assert (agent.unsent_rows, spool.events) == (0, 0)


def test_no_heartbeats_are_stored_while_the_broker_is_away(spool: Spool) -> None:
    time = FakeClock(3_600_000)
    gpus = Gpus("a")
    gpus.alter = lambda r: replace(r, counter_mj=None, watts=None)
    run(time, gpus, FakeBroker(time, away_at=lambda now_ms: True), spool, lambda: {"a": CHAT})
    assert spool.events == 1


def test_with_a_full_spool_rows_stay_in_memory_coarser_and_no_joule_is_lost(tmp_path: Path) -> None:
    time = FakeClock(3_600_000)
    log = FakeBroker(time, away_at=lambda now_ms: 10_000 < now_ms < 3_500_000)
    longest = 0

    def bindings() -> Mapping[str, Binding]:
        nonlocal longest
        longest = max(longest, agent.unsent_rows)
        return {"a": CHAT, "b": CHAT}

    with closing(Spool(tmp_path / "spool.db", max_bytes=20_000)) as spool:
        agent = Agent(replace(NODE, max_rows=100), Gpus("a", "b"), Delivery(spool, log), time, bindings)
        agent.run()
        assert spool.size_bytes == 0
    assert 50 < longest <= 102
    assert agent.metrics.spool_errors._value.get() > 0
    got = rows(log.stored)
    assert Counter(r[1] for r in got).keys() == {"a", "b"}
    assert sum(r[4] for r in got) == 2 * 3_600 * 300_000_000
    for gpu in ("a", "b"):
        mine = sorted(r[2:4] for r in got if r[1] == gpu)
        assert mine[0][0] == 0
        assert mine[-1][1] == 3_600_000
        assert all(before[1] == after[0] for before, after in itertools.pairwise(mine))
    assert [e.seq for e in log.stored] == list(range(len(log.stored)))


def test_a_stop_without_a_broker_leaves_the_joules_to_the_next_run(spool: Spool) -> None:
    time = FakeClock(20_000)
    run(time, Gpus("a"), FakeBroker(time, away_at=lambda now_ms: True), spool)
    later = FakeClock(100_000)
    later.now_ms = time.now_ms
    log = FakeBroker(later)
    run(later, Gpus("a"), log, spool)
    assert sum(r[4] for r in rows(log.stored)) == 100 * 300_000_000
    assert {e.epoch for e in log.stored} == {T0, T0 + 20_000 + 30_000}


def test_a_stop_without_broker_and_disk_names_the_lost_joules(tmp_path: Path) -> None:
    time = FakeClock(20_000)
    with (
        closing(Spool(tmp_path / "spool.db", max_bytes=1)) as spool,
        pytest.raises(Unavailable, match=r"6000\.000 J of east/n1"),
    ):
        beat = heartbeat_batch(topics.POWER, T0, node="n0")
        spool.put([encode_message(Event("nvml://east/n0/w", 1, 0, "east", "w", beat))])  # Fills the spool.
        run(time, Gpus("a"), FakeBroker(time, away_at=lambda now_ms: True), spool)


@settings(max_examples=examples(60), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_an_agent_killed_at_any_points_loses_no_joule_and_counts_none_twice(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("killed") / "spool.db"
    time, gpus = FakeClock(300_000), Gpus("a", "b")
    away = data.draw(st.sets(st.integers(0, 29)), "away")
    log = FakeBroker(time, away_at=lambda now_ms: now_ms // 10_000 in away)
    for down_ms in data.draw(st.lists(st.integers(0, 40_000), max_size=4), "down"):
        with closing(Spool(path)) as spool:
            agent = Agent(NODE, gpus, Delivery(spool, log), time, lambda: {"a": CHAT}, checkpoints=spool.checkpoints())
            for _ in range(data.draw(st.integers(1, 20), "samples")):
                agent.sample()
                time.now_ms += 1_000
                if data.draw(st.booleans(), "publishes"):
                    agent.publish()
        log.forget()  # messages in flight are lost with the process, and their answers too
        time.now_ms += down_ms
    time.end_ms = time.now_ms + 60_000
    log.away_at = lambda now_ms: False
    with closing(Spool(path)) as spool:
        run(time, gpus, log, spool, lambda: {"a": CHAT})
    distinct = {(e.source, e.epoch, e.seq): e for e in log.stored}  # as a worker sees them
    assert sum(r[4] for r in rows(list(distinct.values()))) == 2 * 300_000 * time.end_ms


def test_checkpoints_of_an_earlier_boot_are_ignored(spool: Spool) -> None:
    time = FakeClock(20_000)
    run(time, Gpus("a"), FakeBroker(time), spool)
    later = FakeClock(30_000)
    log = FakeBroker(later)
    run(later, Gpus("a"), log, spool, node=replace(NODE, boot="the next one"))
    assert sum(r[4] for r in rows(log.stored)) == 30 * 300_000_000


def test_missed_samples_are_bridged_and_not_made_up_for(spool: Spool) -> None:
    time = FakeClock(20_000)
    log, gpus = FakeBroker(time), Gpus("a")

    def slow(reading: GpuReading) -> GpuReading:
        time.now_ms += 2_500
        return reading

    gpus.alter = slow
    run(time, gpus, log, spool)
    assert [r[3] - r[2] for r in rows(log.stored)] == [3_000] * 6 + [2_000]


def test_a_failing_sensor_is_counted_and_the_loop_continues(spool: Spool) -> None:
    class Flaky(Gpus):
        def readings(self, clock: Clock) -> Sequence[GpuReading]:
            if clock.monotonic_ms() == 3_000:
                raise Unavailable("the driver went away", "load it")
            return super().readings(clock)

    time = FakeClock(10_000)
    log = FakeBroker(time)
    agent = run(time, Flaky("a"), log, spool)
    assert sum(r[4] for r in rows(log.stored)) == 10 * 300_000_000
    assert agent.metrics.sample_errors._value.get() == 1


def test_inputs_that_a_sensor_refused_are_counted(spool: Spool) -> None:
    class Exporter(Gpus):
        def drain_refused(self) -> Sequence[str]:
            return ["a malformed line"]

    registry, time = CollectorRegistry(), FakeClock(10_000)
    log = FakeBroker(time)
    Agent(NODE, Exporter("a"), Delivery(spool, log), time, dict, AgentMetrics(registry)).run()
    assert sum(r[4] for r in rows(log.stored)) == 10 * 300_000_000
    assert registry.get_sample_value("wattlog_producer_refused_total", {"source": "nvml", "reason": "invalid"}) == 11


def test_a_gpu_that_shows_only_zeros_is_named_and_has_no_energy(spool: Spool, caplog: pytest.LogCaptureFixture) -> None:
    time, gpus = FakeClock(10_000), Gpus("a")
    gpus.alter = lambda r: replace(r, counter_mj=0, watts=0.0)
    log = FakeBroker(time)
    run(time, gpus, log, spool)
    assert rows(log.stored) == []
    assert "a: 0 W, as at each reading so far, is implausible, and taken as unknown" in caplog.text


def test_metrics_count_rows_joules_and_resets(spool: Spool) -> None:
    registry = CollectorRegistry()
    time = FakeClock(10_000)
    gpus = Gpus("a")
    gpus.alter = lambda r: replace(
        r, counter_mj=r.counter_mj if r.monotonic_ms < 5_000 else 300 * (r.monotonic_ms - 4_999)
    )  # type: ignore[type-var]
    Agent(NODE, gpus, Delivery(spool, FakeBroker(time)), time, dict, AgentMetrics(registry)).run()
    value = registry.get_sample_value
    assert value("wattlog_producer_rows_total") == 10
    assert value("wattlog_producer_counter_resets_total") == 1
    assert value("wattlog_producer_joules_total") == pytest.approx(10 * 300)
    assert value("wattlog_producer_backlog_rows") == 0
    assert value("wattlog_producer_sample_seconds_count") == 11


@settings(max_examples=examples(50))
@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, MAX_SPAN_MS), st.integers(0, 5)), max_size=200),
    st.integers(1, 20),
)
def test_coarsening_keeps_every_joule_and_never_overlaps(moves: list[tuple[str, int, int]], max_rows: int) -> None:
    backlog, ends, energy = Backlog(max_rows), Counter[str](), Counter[str]()
    for n, (gpu, span, gap) in enumerate(moves):
        t0 = ends[gpu] + gap // 4
        ends[gpu] = t0 + span
        energy[gpu] += n
        backlog.add(
            [
                EnergyInterval(
                    gpu_uuid=gpu,
                    hardware="H",
                    t0_ms=t0,
                    t1_ms=t0 + span,
                    energy_uj=n,
                    method=Method.COUNTER,
                    busy_ms=span // 2,
                )
            ]
        )
    assert backlog.energy_uj == sum(energy.values())
    got = backlog.take(10_000)
    assert all(0 < r.t1_ms - r.t0_ms <= MAX_SPAN_MS for r in got)
    for gpu in "abc":
        mine = sorted((r for r in got if r.gpu_uuid == gpu), key=lambda r: r.t0_ms)
        assert sum(r.energy_uj for r in mine) == energy[gpu]
        assert all(a.t1_ms <= b.t0_ms for a, b in itertools.pairwise(mine))


def test_an_agent_on_a_real_log(spool: Spool, broker: str, consume: Callable[..., list[Message]]) -> None:
    time = FakeClock(30_000)
    with Publisher({"bootstrap.servers": broker}) as publisher:
        Agent(NODE, Gpus("a", "b"), Delivery(spool, publisher), time, lambda: {"a": CHAT}).run()
    messages = consume(topics.POWER, 12)
    events = [codec.decode(m.headers(), m.value()) for m in messages]
    assert sum(r[4] for r in rows(events)) == 2 * 30 * 300_000_000
    for workload in ("chat", "~n1"):
        assert [e.seq for e in events if e.workload == workload] == list(range(6))
