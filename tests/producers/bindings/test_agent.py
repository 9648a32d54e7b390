"""A GPU that changes holders, or is shared, while an agent meters it: no joule is lost or counted twice."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contracts import topics
from contracts.events import Event, UsageBatch
from producers.bindings.apportion import Binding, BindingShare, GpuShares
from producers.runtime.agent import Agent
from producers.runtime.agent_checkpoint import CHECKPOINT_PREFIX, AgentCheckpoint
from producers.runtime.delivery import Delivery
from producers.runtime.spool import Spool
from tests.producers.runtime.agent_kills import run_through_kills
from tests.producers.runtime.test_agent import NODE, Gpus, rows
from tests.support import partition_log as ledger
from tests.support.brokers import FakeBroker
from tests.support.clocks import T0, FakeClock
from tests.support.oracle import Request

NODE_HELD = replace(NODE, held_ms=60_000)
UJ_PER_MS = 300_000


def share(workload: str, weight: int = 1, pod: str = "p") -> BindingShare:
    return BindingShare(Binding(workload, "acme"), weight, (("source", "kubernetes"), ("pod", pod)))


CHAT, CODE = (share("chat"),), (share("code"),)
BOTH = (share("chat", 2), share("code", 1))


def held_rows(events: Sequence[Event]) -> list[tuple[str, str, int, int, Decimal]]:
    """(workload, gpu, t0, t1, seconds) of the record of holders."""
    return [
        (e.workload, b.dimensions[n]["gpu"], int(b.t0_ms[n]) - T0, int(b.t1_ms[n]) - T0, Decimal(b.quantity[n]))
        for e in events if isinstance(b := e.batch, UsageBatch) for n in range(len(b))
    ]  # fmt: skip


def energy(events: Sequence[Event]) -> Counter[str]:
    totals: Counter[str] = Counter()
    for workload, _, _, _, energy_uj in rows(events):
        totals[workload] += energy_uj
    return totals


def test_energy_and_seconds_of_a_shared_gpu_are_split_by_weight_and_sum_to_the_whole(tmp_path: Path) -> None:
    time = FakeClock(30_000)
    log = FakeBroker(time)
    with closing(Spool(tmp_path / "spool.db")) as spool:
        Agent(NODE, Gpus("a"), Delivery(spool, log), time, lambda: {"a": BOTH}).run()
    assert energy(log.stored) == {"chat": 30_000 * UJ_PER_MS * 2 // 3, "code": 30_000 * UJ_PER_MS // 3}
    got = sorted(r[2:4] for r in rows(log.stored))
    assert (got[0][0], got[-1][1]) == (0, 30_000)
    assert all(before[1] == after[0] for before, after in itertools.pairwise(got))
    assert {e.batch.owner for e in log.stored} == {"acme"}  # type: ignore[union-attr]


def test_a_holder_bears_its_share_of_the_boards_idle_floor(tmp_path: Path) -> None:
    """300 W over 30 s, a floor of 60 W. chat, working for globex, holds two thirds; code, idle, one third."""
    time = FakeClock(30_000)
    sent = FakeBroker(time)
    with closing(Spool(tmp_path / "spool.db")) as spool:
        Agent(NODE, Gpus("a"), Delivery(spool, sent), time, lambda: {"a": BOTH}).run()
    log = ledger.Log()
    for event in sent.stored:
        log.append(event.batch, event.cluster, event.workload, event.source)
    request = Request(
        cluster="east",
        workload="chat",
        tenant="globex",
        model="llama",
        request_id="r",
        start=T0,
        first=T0 + 1_000,
        end=T0 + 30_000,
        prompt=500,
        cached=0,
        completion=500,
    )
    log.append(ledger.tokens([request]), "east", "chat")
    ledger.close(log, T0 + 30_000)
    store = ledger.Worker(log, policy=ledger.policy({"H100": 60_000})).run()
    totals: Counter[tuple[str, str, str]] = Counter()
    for row in store.live("ledger"):
        for part in ("active_uj", "idle_uj", "unallocated_uj"):
            totals[row["workload"], row["tenant"], part] += row[part]
    assert +totals == {
        ("chat", "globex", "active_uj"): 4_800_000_000, ("chat", "globex", "idle_uj"): 1_200_000_000,
        ("code", "acme", "idle_uj"): 3_000_000_000,
    }  # fmt: skip


def test_a_gpu_that_changes_holders_mid_run_is_recorded_with_each_holder_and_its_share(tmp_path: Path) -> None:
    time = FakeClock(180_000)
    log = FakeBroker(time)

    def now() -> dict[str, GpuShares]:
        return {"a": CHAT if time.now_ms < 50_000 else BOTH if time.now_ms < 110_000 else CODE}

    with closing(Spool(tmp_path / "spool.db")) as spool:
        Agent(NODE_HELD, Gpus("a"), Delivery(spool, log), time, now).run()
    assert held_rows(log.stored) == [
        ("chat", "a", 0, 50_000, Decimal(50)),
        ("chat", "a", 50_000, 110_000, Decimal(40)), ("code", "a", 50_000, 110_000, Decimal(20)),
        ("code", "a", 110_000, 170_000, Decimal(60)), ("code", "a", 170_000, 180_000, Decimal(10)),
    ]  # fmt: skip
    assert energy(log.stored) == {"chat": 90_000 * UJ_PER_MS, "code": 90_000 * UJ_PER_MS}


def test_the_record_of_holders_has_a_source_of_its_own_numbered_without_gaps(tmp_path: Path) -> None:
    time = FakeClock(300_000)
    log = FakeBroker(time, refuse_next=3)
    with closing(Spool(tmp_path / "spool.db")) as spool:
        Agent(NODE_HELD, Gpus("a"), Delivery(spool, log), time, lambda: {"a": CHAT}).run()
    usage = [e for e in log.stored if isinstance(e.batch, UsageBatch)]
    assert {e.source for e in usage} == {"nvml-held://east/n1/chat"}
    assert sorted(e.seq for e in usage) == list(range(len(usage)))
    assert [r[2:4] for r in sorted(held_rows(usage))] == [(n, n + 60_000) for n in range(0, 300_000, 60_000)]
    for event in usage:
        event.batch.check()


def test_a_gpu_without_a_holder_is_not_recorded(tmp_path: Path) -> None:
    time = FakeClock(120_000)
    log = FakeBroker(time)
    with closing(Spool(tmp_path / "spool.db")) as spool:
        Agent(NODE_HELD, Gpus("a"), Delivery(spool, log), time, dict).run()
    assert held_rows(log.stored) == []
    assert energy(log.stored) == {topics.node_workload("n1"): 120_000 * UJ_PER_MS}


def test_energy_goes_on_where_the_topic_of_the_record_is_refused(tmp_path: Path) -> None:
    time = FakeClock(3_600_000)
    log = FakeBroker(time)
    log.missing = {topics.USAGE}
    with closing(Spool(tmp_path / "spool.db", max_bytes=20_000)) as spool:
        agent = Agent(replace(NODE_HELD, held_ms=5_000), Gpus("a"), Delivery(spool, log), time, lambda: {"a": CODE})
        agent.run()
        assert spool.events == spool.events_for(topics.USAGE) > 0
        assert spool.size_bytes < 20_000
    assert agent.metrics.spool_errors._value.get() > 0
    assert energy(log.stored) == {"code": 3_600_000 * UJ_PER_MS}
    assert max(r[3] - r[2] for r in rows(log.stored)) == 1_000  # None was merged in memory.
    assert [e.seq for e in log.stored] == list(range(len(log.stored)))


def test_rows_of_a_shared_gpu_are_merged_as_one_and_split_when_they_are_sent(tmp_path: Path) -> None:
    time = FakeClock(600_000)
    log = FakeBroker(time, away_at=lambda now_ms: 10_000 < now_ms < 550_000)
    with closing(Spool(tmp_path / "spool.db", max_bytes=40_000)) as spool:
        node = replace(NODE, max_rows=50)
        agent = Agent(node, Gpus("a"), Delivery(spool, log), time, lambda: {"a": BOTH})
        agent.run()
    assert energy(log.stored) == {"chat": 600_000 * UJ_PER_MS * 2 // 3, "code": 600_000 * UJ_PER_MS // 3}
    got = sorted(r[2:4] for r in rows(log.stored))
    assert all(before[1] == after[0] for before, after in itertools.pairwise(got))


def test_a_checkpoint_of_an_agent_without_shares_is_valid(tmp_path: Path) -> None:
    class Old(msgspec.Struct):
        boot: str
        holder: Binding
        state: object

    time = FakeClock(20_000)
    with closing(Spool(tmp_path / "spool.db")) as spool:
        Agent(NODE, Gpus("a"), Delivery(spool, FakeBroker(time)), time, lambda: {"a": Binding("chat", "acme")}).run()
        mark = msgspec.msgpack.decode(spool.checkpoints()[CHECKPOINT_PREFIX + "a"])
        old = msgspec.msgpack.encode(Old(mark["boot"], mark["holder"], mark["state"]))
        assert msgspec.msgpack.decode(old, type=AgentCheckpoint).current_shares == (
            BindingShare(Binding("chat", "acme")),
        )
        spool.put([], {CHECKPOINT_PREFIX + "a": old})
        later = FakeClock(60_000)
        later.now_ms = 40_000
        log = FakeBroker(later)
        Agent(NODE, Gpus("a"), Delivery(spool, log), later, lambda: {"a": CODE}, checkpoints=spool.checkpoints()).run()
    assert energy(log.stored) == {"chat": 20_000 * UJ_PER_MS, "code": 20_000 * UJ_PER_MS}


def test_a_checkpoint_with_shares_can_be_read_by_an_agent_without_them(tmp_path: Path) -> None:
    class Old(msgspec.Struct):
        boot: str
        holder: Binding
        state: object

    time = FakeClock(20_000)
    with closing(Spool(tmp_path / "spool.db")) as spool:
        Agent(NODE_HELD, Gpus("a"), Delivery(spool, FakeBroker(time)), time, lambda: {"a": BOTH}).run()
        assert msgspec.msgpack.decode(spool.checkpoints()[CHECKPOINT_PREFIX + "a"], type=Old).holder == Binding(
            "chat", "acme"
        )


def test_a_gpu_that_appears_later_leaves_the_checkpoints_of_the_others_unchanged(tmp_path: Path) -> None:
    """Killed right after: the first GPU's energy is in memory only, so its checkpoint must not have advanced."""
    time = FakeClock(10**9)
    with closing(Spool(tmp_path / "spool.db")) as spool:
        gpus, log = Gpus("a", "b"), FakeBroker(time)
        gpus.alter = lambda r: r if r.gpu_uuid == "a" or r.monotonic_ms >= 3_000 else None
        agent = Agent(NODE, gpus, Delivery(spool, log), time, lambda: {"a": CHAT})
        for _ in range(4):
            agent.sample()
            time.now_ms += 1_000
        time.end_ms = 10_000
        Agent(NODE, gpus, Delivery(spool, log), time, lambda: {"a": CHAT}, checkpoints=spool.checkpoints()).run()
    assert energy(log.stored)["chat"] == 10_000 * UJ_PER_MS


HOLDINGS: tuple[GpuShares | None, ...] = (CHAT, CODE, BOTH, (share("chat", 1, "p2"),), None)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.data())
def test_no_joule_or_second_is_lost_or_doubled_through_changes_of_holders_and_kills(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("killed") / "spool.db"
    time, gpus = FakeClock(300_000), Gpus("a", "b")
    away = data.draw(st.sets(st.integers(0, 29)), "away")
    log = FakeBroker(time, away_at=lambda now_ms: now_ms // 10_000 in away)
    turns = data.draw(st.lists(st.sampled_from(HOLDINGS), min_size=1, max_size=5), "holders")
    node = replace(NODE_HELD, held_ms=data.draw(st.sampled_from([1, 5_000, 60_000]), "held_ms"))

    def now() -> dict[str, GpuShares]:
        holding = turns[time.now_ms // 7_000 % len(turns)]
        return {"b": CHAT} | ({"a": holding} if holding else {})

    def agent(spool: Spool) -> Agent:
        return Agent(node, gpus, Delivery(spool, log), time, now, checkpoints=spool.checkpoints())

    run_through_kills(data, path, log, agent, max_down_ms=40_000)
    distinct = list({(e.source, e.epoch, e.seq): e for e in log.stored}.values())
    assert sum(energy(distinct).values()) == 2 * UJ_PER_MS * time.end_ms
    for gpu in ("a", "b"):
        mine = sorted(r[2:4] for r in rows(distinct) if r[1] == gpu)
        assert sum(t1 - t0 for t0, t1 in mine) == time.end_ms
        assert all(before[1] <= after[0] for before, after in itertools.pairwise(mine))
    identities = {(e.batch.origin[n], e.batch.event_id[n]) for e in distinct if isinstance(e.batch, UsageBatch)
            for n in range(len(e.batch))}  # fmt: skip
    assert len(identities) == len(held_rows(distinct))
    for gpu in ("a", "b"):
        held_s = sum(r[4] for r in held_rows(distinct) if r[1] == gpu)
        ours_ms = sum(r[3] - r[2] for r in rows(distinct) if r[1] == gpu and not topics.is_unallocated(r[0]))
        assert held_s * 1000 == ours_ms
