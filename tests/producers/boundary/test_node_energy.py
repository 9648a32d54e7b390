"""A node's energy beside its GPUs through the agent: exact by workload and boundary, through faults and kills."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from contracts.boundary import HOST, WALL_LESS_GPUS
from contracts.errors import Unavailable
from producers.bindings.apportion import Binding
from producers.boundary.node_energy import CHECKPOINT_NAME
from producers.gpu.readings import GpuReading
from producers.recordings.mlperf.recording import WallReading, read_readings
from producers.runtime.agent import Agent
from producers.runtime.clock import Clock
from producers.runtime.spool import Spool
from tests.producers.boundary.stand_ins import (
    CONFIG,
    Gpus,
    agent_of,
    distinct,
    energy_by,
    host_meter,
    power_rows,
    wall_meter,
)
from tests.producers.runtime.agent_kills import run_through_kills
from tests.support import partition_log as ledger
from tests.support.brokers import FakeBroker
from tests.support.clocks import T0, FakeClock
from tests.support.examples import examples
from tests.support.oracle import Request

CHAT, CODE = Binding("chat", "acme"), Binding("code", "globex")
HOLDERS: Mapping[str, Binding] = {"a": CHAT, "b": CODE}
J = 1_000_000
GPU_W = {"a": 600, "b": 200}


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    with closing(Spool(tmp_path / "spool.db")) as spool:
        yield spool


def refused(registry: CollectorRegistry, reason: str) -> float | None:
    """Return how often something of the wall was refused for a reason."""
    labels = {"source": "wall redfish", "reason": reason}
    return registry.get_sample_value("wattlog_producer_refused_total", labels)


def test_a_hosts_energy_is_published_with_its_gpus_under_the_workloads_that_run_there(spool: Spool) -> None:
    time = FakeClock(60_000)
    log = FakeBroker(time)
    agent_of(time, Gpus(GPU_W), log, spool, host_meter(time, package_0=150, dram_0=50), lambda: HOLDERS).run()
    assert energy_by(log.stored) == {
        ("chat", "H100"): 60 * 600 * J, ("code", "H100"): 60 * 200 * J,
        # The host is read from the second sample on: then its GPUs have been read before.
        ("chat", HOST): 59 * 150 * J, ("code", HOST): 59 * 50 * J,
    }  # fmt: skip
    rows = sorted(row[3:5] for row in power_rows(log.stored) if row[1:3] == ("host-n1", HOST))
    assert (rows[0][0], rows[-1][1]) == (1_000, 60_000)
    assert all(before[1] == after[0] for before, after in pairwise(rows))
    assert {event.source for event in log.stored} == {"nvml://east/n1/chat", "nvml://east/n1/code"}
    assert [event.seq for event in log.stored if event.workload == "chat"] == list(range(len(log.stored) // 2))


@pytest.mark.parametrize("hardware", [HOST, WALL_LESS_GPUS])
def test_the_ledger_charges_a_workloads_part_to_its_tenants_and_counts_tokens_at_the_gpus(
    spool: Spool, hardware: str
) -> None:
    """chat serves two tenants, three quarters and one quarter of its tokens. No window lacks energy of the node."""
    time = FakeClock(60_000)
    sent = FakeBroker(time)
    meter = host_meter(time, package_0=200) if hardware == HOST else wall_meter(lambda: 1_000.0)
    agent_of(time, Gpus(GPU_W), sent, spool, meter, lambda: HOLDERS).run()
    log = ledger.Log()
    for event in sent.stored:
        log.append(event.batch, event.cluster, event.workload, event.source)
    requests = [
        Request(cluster="east", workload="chat", tenant=tenant, model="llama", request_id=tenant, start=T0,
                first=T0 + 1, end=T0 + 60_000, prompt=0, cached=0, completion=completion)
        for tenant, completion in (("acme", 3_000), ("globex", 1_000))
    ]  # fmt: skip
    log.append(ledger.tokens(requests), "east", "chat")
    ledger.close(log, T0 + 60_000)
    uj, tokens = Counter[tuple[str, str]](), Counter[str]()
    for row in ledger.Worker(log).run().live("ledger"):
        uj[row["workload"], row["hardware"]] += row["active_uj"] + row["idle_uj"] + row["unallocated_uj"]
        tokens[row["hardware"]] += row["completion_tokens"]
    assert uj == energy_by(sent.stored)
    assert tokens == {"H100": 4_000, hardware: 0}


def test_without_a_meter_nothing_changes(spool: Spool) -> None:
    time = FakeClock(10_000)
    log = FakeBroker(time)
    agent_of(time, Gpus(GPU_W), log, spool, None, lambda: HOLDERS).run()
    assert {hardware for _, hardware in energy_by(log.stored)} == {"H100"}
    assert CHECKPOINT_NAME not in spool.checkpoints()


def test_a_node_without_workloads_bears_its_own_energy(spool: Spool) -> None:
    time = FakeClock(10_000)
    log = FakeBroker(time)
    agent_of(time, Gpus({"a": 0}), log, spool, host_meter(time, package_0=100)).run()
    assert energy_by(log.stored)["~n1", HOST] == 9 * 100 * J


def test_a_gpu_that_changes_holders_takes_its_part_of_the_host_with_it(spool: Spool) -> None:
    time = FakeClock(20_000)
    log = FakeBroker(time)
    agent_of(time, Gpus({"a": 300}), log, spool, host_meter(time, package_0=100),
             lambda: {"a": CHAT if time.now_ms < 11_000 else CODE}).run()  # fmt: skip
    assert energy_by(log.stored)["chat", HOST] == 10 * 100 * J
    assert energy_by(log.stored)["code", HOST] == 9 * 100 * J


def test_the_walls_energy_beyond_the_gpus_is_published(spool: Spool) -> None:
    time = FakeClock(30_000)
    log = FakeBroker(time)
    agent_of(time, Gpus(GPU_W), log, spool, wall_meter(lambda: 1_000.0), lambda: HOLDERS).run()
    totals = energy_by(log.stored)
    assert totals["chat", WALL_LESS_GPUS] == 29 * 150 * J
    assert totals["code", WALL_LESS_GPUS] == 29 * 50 * J
    assert {row[1] for row in power_rows(log.stored) if row[2] == WALL_LESS_GPUS} == {"wall-n1"}


def test_a_wall_below_its_gpus_is_named_counted_and_not_published(
    spool: Spool, caplog: pytest.LogCaptureFixture
) -> None:
    time, registry = FakeClock(200_000), CollectorRegistry()
    log = FakeBroker(time)
    agent_of(time, Gpus(GPU_W), log, spool, wall_meter(lambda: 700.0), lambda: HOLDERS, registry=registry).run()
    assert {hardware for _, hardware in energy_by(log.stored)} == {"H100"}
    assert "J less than its GPUs" in caplog.text
    assert refused(registry, "below_gpus") == 3
    assert registry.get_sample_value("wattlog_producer_node_joules_left_out_total") == 180 * 700


def test_a_bmc_that_is_down_for_ten_minutes_leaves_a_gap_and_costs_the_gpus_nothing(
    spool: Spool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    time, registry = FakeClock(1_000_000), CollectorRegistry()
    log = FakeBroker(time)

    def watts() -> float:
        if 100_000 < time.now_ms <= 700_000:
            raise Unavailable("the BMC does not answer", "Is it up?")
        return 1_000.0

    agent_of(time, Gpus(GPU_W), log, spool, wall_meter(watts), lambda: HOLDERS, registry=registry).run()
    totals = energy_by(log.stored)
    assert totals["chat", "H100"] == 1_000 * 600 * J
    assert totals["chat", WALL_LESS_GPUS] + totals["code", WALL_LESS_GPUS] == (99 + 299) * 200 * J
    assert refused(registry, "gap") == 1
    assert "nothing was read for 601 s" in caplog.text
    assert refused(registry, "away") == 600


def test_watts_that_stand_for_half_an_hour_are_unknown(spool: Spool) -> None:
    time, registry = FakeClock(3_600_000), CollectorRegistry()
    log = FakeBroker(time)
    agent_of(time, Gpus(GPU_W), log, spool, wall_meter(lambda: 1_000.0), lambda: HOLDERS, registry=registry).run()
    assert (
        sum(uj for (_, hardware), uj in energy_by(log.stored).items() if hardware == WALL_LESS_GPUS) == 1_800 * 200 * J
    )
    assert refused(registry, "stale") == 1_799


def test_a_reader_that_raises_anything_costs_the_gpus_nothing(spool: Spool) -> None:
    def watts() -> float:
        raise RecursionError

    time = FakeClock(10_000)
    log = FakeBroker(time)
    agent_of(time, Gpus(GPU_W), log, spool, wall_meter(watts), lambda: HOLDERS).run()
    assert energy_by(log.stored) == {("chat", "H100"): 6_000 * J, ("code", "H100"): 2_000 * J}


def test_with_a_full_spool_no_joule_of_the_host_is_lost(tmp_path: Path) -> None:
    time = FakeClock(1_800_000)
    log = FakeBroker(time, away_at=lambda now_ms: 10_000 < now_ms < 1_700_000)
    with closing(Spool(tmp_path / "spool.db", max_bytes=20_000)) as spool:
        agent = agent_of(
            time, Gpus(GPU_W), log, spool, host_meter(time, package_0=100), lambda: HOLDERS,
            replace(CONFIG, max_rows=100),
        )  # fmt: skip
        agent.run()
    totals = energy_by(log.stored)
    assert totals["chat", HOST] + totals["code", HOST] == 1_799 * 100 * J
    assert totals["chat", "H100"] == 1_800 * 600 * J
    assert agent.metrics.spool_errors._value.get() > 0


@settings(max_examples=examples(60), suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.data())
def test_an_agent_killed_at_any_points_loses_no_energy_of_its_node_and_counts_none_twice(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Between a store and the next too. Counters wrap every 5 minutes, and down times stay below that."""
    path = tmp_path_factory.mktemp("killed") / "spool.db"
    time = FakeClock(300_000)
    gpus, away = Gpus(GPU_W), data.draw(st.sets(st.integers(0, 29)), "away")
    log = FakeBroker(time, away_at=lambda now_ms: now_ms // 10_000 in away)
    is_wall = data.draw(st.booleans(), "wall")

    def watts() -> float:
        return 1_000.0

    def meter() -> object:
        return wall_meter(watts) if is_wall else host_meter(time, package_0=150, dram_0=50)

    def agent(spool: Spool) -> Agent:
        return agent_of(time, gpus, log, spool, meter(), lambda: HOLDERS)  # type: ignore[arg-type]

    down_ms = 8_000 if is_wall else 40_000
    run_through_kills(data, path, log, agent, max_down_ms=down_ms, min_samples=2, last_ms=60_000)
    totals = energy_by(distinct(log.stored))
    assert totals["chat", "H100"] + totals["code", "H100"] == 800 * 1_000 * time.end_ms
    node = sorted(row[3:] for row in power_rows(distinct(log.stored)) if row[2] != "H100")
    node_ms = sum(t1 - t0 for t0, t1, _ in node)
    assert sum(uj for _, _, uj in node) == 200 * 1_000 * node_ms
    assert all(before[1] <= after[0] for before, after in pairwise(node))
    assert node[-1][1] == time.end_ms
    if not is_wall:  # Watts show nothing of a time without readings.
        assert node[0][0] + node_ms == time.end_ms


def test_a_kill_between_a_store_and_the_next_counts_nothing_twice(spool: Spool) -> None:
    time = FakeClock(10**9)
    log = FakeBroker(time)
    agent = agent_of(time, Gpus(GPU_W), log, spool, host_meter(time, package_0=100), lambda: HOLDERS)
    for n in range(10):
        agent.sample()
        if n == 5:
            agent.publish()
        time.now_ms += 1_000
    time.end_ms = 20_000
    agent_of(time, Gpus(GPU_W), log, spool, host_meter(time, package_0=100), lambda: HOLDERS).run()
    totals = energy_by(distinct(log.stored))
    assert totals["chat", HOST] + totals["code", HOST] == 19 * 100 * J


class SlowGpus(Gpus):
    """GPUs whose counters advance every 5 s only, so that the node's spans wait for them."""

    def readings(self, clock: Clock) -> Sequence[GpuReading]:
        now_ms = clock.monotonic_ms() // 5_000 * 5_000
        return [
            replace(reading, counter_mj=1_000 + self.watts[reading.gpu_uuid] * now_ms)
            for reading in super().readings(clock)
        ]


@pytest.mark.parametrize("is_wall", [False, True])
def test_a_clock_that_is_set_back_loses_nothing_of_a_host_and_names_what_it_loses_of_a_wall(
    spool: Spool, is_wall: bool
) -> None:
    time, registry = FakeClock(10**9), CollectorRegistry()
    log = FakeBroker(time)
    meter = wall_meter(lambda: 1_000.0) if is_wall else host_meter(time, package_0=200)
    agent = agent_of(time, SlowGpus(GPU_W), log, spool, meter, lambda: HOLDERS, registry=registry)
    for second in range(601):
        if second == 304:
            time.epoch_ms -= 3_600_000
        agent.sample()
        time.now_ms += 1_000
    agent._split_node_energy(end=True)
    agent.close()
    totals = energy_by(log.stored)
    rest_uj = sum(uj for (_, hardware), uj in totals.items() if hardware != "H100")
    left_out_j = registry.get_sample_value("wattlog_producer_node_joules_left_out_total")
    assert totals["chat", "H100"] == 600 * 600 * J
    if is_wall:
        assert 0 < left_out_j <= 10 * 1_000  # type: ignore[operator]
        assert rest_uj == 599 * 200 * J - round(left_out_j * 200 / 1_000) * J  # type: ignore[operator]
    else:
        assert (rest_uj, left_out_j) == (599 * 200 * J, 0)
    assert registry.get_sample_value("wattlog_producer_node_joules_total") == rest_uj / J


def test_a_boot_of_the_machine_ends_the_old_state(spool: Spool) -> None:
    time = FakeClock(10_000)
    agent_of(time, Gpus(GPU_W), FakeBroker(time), spool, host_meter(time, package_0=100), lambda: HOLDERS).run()
    later = FakeClock(20_000)
    log = FakeBroker(later)
    config = replace(CONFIG, boot="the next one")
    agent_of(later, Gpus(GPU_W), log, spool, host_meter(later, package_0=100), lambda: HOLDERS, config).run()
    assert energy_by(log.stored)["chat", HOST] + energy_by(log.stored)["code", HOST] == 19 * 100 * J


def test_another_source_does_not_continue_the_state(spool: Spool) -> None:
    time = FakeClock(10_000)
    agent_of(time, Gpus(GPU_W), FakeBroker(time), spool, host_meter(time, package_0=100), lambda: HOLDERS).run()
    later = FakeClock(20_000, now_ms=10_000)
    log = FakeBroker(later)
    agent_of(later, Gpus(GPU_W), log, spool, wall_meter(lambda: 1_000.0), lambda: HOLDERS).run()
    assert {hardware for _, hardware in energy_by(log.stored)} == {"H100", WALL_LESS_GPUS}


def test_mlperfs_recording_as_the_wall_of_a_node(spool: Spool, shared_data: Path) -> None:
    """GPUs and the rest sum to the trapezoid of the wall, to the microjoule; each workload has its GPUs' part of it."""
    path = shared_data / "power" / "mlperf_gptj-99_Server" / "spl.txt"
    readings = [reading for reading in read_readings(path, 0) if isinstance(reading, WallReading)]
    time = FakeClock(epoch_ms=readings[0].t_ms - 1_000)
    log = FakeBroker(time)
    gpus = Gpus({"a": 300, "b": 150, "c": 150})
    by_ms = {reading.t_ms: reading.power_uw / 10**6 for reading in readings}
    holders = {"a": CHAT, "b": CODE, "c": CODE}
    agent = agent_of(time, gpus, log, spool, wall_meter(lambda: by_ms[time.wall_ms()]), lambda: holders)
    agent.sample()  # The GPUs alone.
    for n, reading in enumerate(readings):
        time.now_ms = reading.t_ms - time.epoch_ms
        agent.sample()
        if n % 5 == 0:
            agent.publish()
    agent._split_node_energy(end=True)
    agent.close()
    half_uj = sum(
        (round(a.power_uw / 1000) + round(b.power_uw / 1000)) * (b.t_ms - a.t_ms) for a, b in pairwise(readings)
    )
    span_ms = readings[-1].t_ms - readings[0].t_ms
    totals: Counter[tuple[str, str]] = energy_by(log.stored)
    rest_uj = {w: totals[w, WALL_LESS_GPUS] for w in ("chat", "code")}
    assert sum(rest_uj.values()) + 600 * 1_000 * span_ms == half_uj // 2
    assert abs(rest_uj["chat"] - rest_uj["code"]) <= len(readings)  # Both have 300 W of GPUs.
    assert {row[0] for row in power_rows(log.stored)} == {"chat", "code"}
