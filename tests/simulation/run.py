"""One simulation from its seed to its verdict."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random

from contracts import topics
from tests.simulation import check
from tests.simulation.broker import Group, Log, TopicPartition
from tests.simulation.loop import Process, World
from tests.simulation.plan import Fault, Plan, plan
from tests.simulation.store import Store
from tests.simulation.tables import Tables
from tests.simulation.traffic import Sent, last_beats, traffic
from tests.simulation.worker import LOG_ID, Surroundings, Ways, Worker
from tests.support.partition_log import policy

DRAIN_MS = 240_000.0
"""Virtual time after the last fault within which all must be stored and committed."""
LOOK_MS = 500.0
UNDER_WAY_MS = 10_000.0
"""Time that a request of a killed process may still take: longer than a session, and than a claim waits."""
_RESTART_MS = (50.0, 3_000.0)
_log = logging.getLogger("wattlog.stream")


@dataclass
class Result:
    """The result of a seed. `broken` is None if every invariant held."""

    seed: int
    broken: str | None
    met: Counter[str] = field(default_factory=Counter)
    """Faults that occurred, by kind."""
    lines: list[str] = field(default_factory=list)
    """The trace, if requested."""
    virtual_ms: int = 0
    steps: int = 0


def simulate(seed: int, *, trace: bool = False, tables: Tables | None = None) -> Result:
    """Run the simulation of a seed. `tables` may be a warehouse with a defect, to test its detection."""
    return simulate_plan(plan(seed), trace=trace, tables=tables)


def simulate_plan(plan_: Plan, *, trace: bool = False, tables: Tables | None = None) -> Result:
    """Run one simulation."""
    run = Simulation(plan_, trace=trace, tables=tables)
    with _logged(run.world):
        return run.run()


class Simulation:
    """Producers, a log, a group of workers, a store, and their faults."""

    def __init__(self, plan_: Plan, *, trace: bool = False, tables: Tables | None = None) -> None:
        self.plan = plan_
        self.rng = Random(f"run {plan_.seed}")
        self.world = World(trace=trace)
        self.met: Counter[str] = Counter()
        self.log = Log(plan_.partitions)
        self.store = Store(self.world, self.rng, plan_.fates, tables)
        self.group = Group(self.world, self.rng, self.log, self._check_commit)
        self.traffic = traffic(Random(f"traffic {plan_.seed}"), plan_.mix, plan_.partitions)
        self.appended: dict[TopicPartition, list[tuple[int, Sent]]] = {tp: [] for tp in self.log.messages}
        """What is on the log, with its offset."""
        self.around = Surroundings(
            world=self.world,
            rng=self.rng,
            log=self.log,
            group=self.group,
            store=self.store,
            settings=plan_.settings,
            policy=policy(plan_.floors, plan_.settings.idle_policy),
            ways=plan_.ways,
            letters=[],
            met=self.met,
        )
        self.workers: list[Worker] = []
        self._target_workers = plan_.workers
        self._armed: dict[Process, tuple[str, int, Callable[[], None]]] = {}
        """What happens to a process after so many steps, from when it sends such a request."""
        self.store.on_request = self._on_request
        self.greatest_open_rows = 0

    def run(self) -> Result:
        """Faults, then quiet until all is stored, then the verdict."""
        world = self.world
        world.note("plan", "{}", self.plan)
        for sent in self.traffic.sent:
            for at_ms in sent.at_ms:
                world.later(max(at_ms, 0.0), lambda sent=sent: self._append(sent))  # type: ignore[misc]
        for fault in self.plan.faults:
            world.later(fault.at_ms, lambda fault=fault: self._happen(fault))  # type: ignore[misc]
        for _ in range(self.plan.workers):
            self._start()
        last_ms = max((t for s in self.traffic.sent for t in s.at_ms), default=0.0)
        self._go(max(self.plan.chaos_ms, last_ms))
        self._heal()
        if self.plan.ways.dropped:
            past_ms = (
                world.now_ms - 2 * self.plan.mix.worker_behind_ms - 2_000
            )  # Too early for any clock to count it as future.
            for sent in last_beats(self.rng, self.plan.mix, self.plan.partitions, past_ms):
                self._append(sent)
        end_ms = world.now_ms + DRAIN_MS
        while world.broken is None and not self._drained():
            if world.now_ms > end_ms:
                world.violated(f"not drained {DRAIN_MS:.0f} ms after the last fault: {self._left()}")
                break
            self._go(world.now_ms + LOOK_MS)
        if world.broken is None:
            self.store.settle()
            self._go(world.now_ms + self.plan.fates.ghost_ms * bool(self.plan.fates.ghost) + LOOK_MS)
        if world.broken is None and (wrong := check.verdict(self)):
            world.violated(wrong)
        self.met.update(self.store.met)
        self.met.update(self.traffic.met)
        self.met["rebalance"] += self.group.rebalances
        for worker in self.workers:
            worker.process.bury()
        return Result(self.plan.seed, world.broken, self.met, world.lines or [], world.now_ms, world.steps)

    def _go(self, t_ms: float) -> None:
        """Run until `until_ms`, tending the workers now and then."""
        end_ms = math.ceil(t_ms)
        while self.world.broken is None and self.world.now_ms < end_ms:
            self.world.run_until(min(end_ms, self.world.now_ms + LOOK_MS))
            self._tend()

    # -- producers -----------------------------------------------------------------------------------------------------

    def _append(self, sent: Sent) -> None:
        tp = (sent.topic, sent.partition)
        skip = self.rng.randrange(1, 4) if self.rng.random() < self.plan.mix.empty else 0
        offset = self.log.append(tp, sent.headers, sent.value, skip=skip)
        self.world.note("log", "{}/{} offset {}: {}", *tp, offset, sent.name)
        self.appended[tp].append((offset, sent))

    # -- workers -------------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        off = self.plan.clock_off_ms
        ahead = self.rng.randrange(-off, off + 1) if off else 0
        self.workers.append(Worker(f"w{len(self.workers)}", self.around, ahead))

    @property
    def alive(self) -> list[Worker]:
        return [w for w in self.workers if not w.ended]

    def _tend(self) -> None:
        """Start missing workers, as an orchestrator does, and check the bound on memory."""
        for _ in range(self._target_workers - len(self.alive)):
            self.world.later(self.rng.uniform(*_RESTART_MS), self._start_if_missing)
        for worker in self.alive:
            rows = sum(state.open_rows for state in worker.stream_worker._assignment.partitions())
            self.greatest_open_rows = max(self.greatest_open_rows, rows)

    def _start_if_missing(self) -> None:
        if len(self.alive) < self._target_workers:
            self._start()

    # -- faults --------------------------------------------------------------------------------------------------------

    def _happen(self, fault: Fault) -> None:
        self.world.note("fault", "{}", fault)
        self.met[fault.kind] += 1
        if fault.kind == "store away":
            self.store.go_away(fault.for_ms)
        elif fault.kind == "log stalls":
            self.around.stalled_until_ms = self.world.now_ms + fault.for_ms
        elif fault.kind == "join":
            self._target_workers += 1
            self._start()
        elif self.alive:
            self._happen_to(self.rng.choice(self.alive), fault)

    def _happen_to(self, worker: Worker, fault: Fault) -> None:
        def happen() -> None:
            if fault.kind.startswith("kill"):
                return worker.process.kill()
            worker.process.stop_running()
            return self.world.later(fault.for_ms, worker.process.go_on)

        if fault.kind.endswith("soon"):
            worker.process.after_steps = (fault.steps, happen)
        elif fault.kind.endswith("write"):
            self._armed[worker.process] = (fault.write, fault.steps, happen)
        elif fault.kind == "isolate":
            worker.isolated = True
            self.world.later(fault.for_ms, lambda: setattr(worker, "isolated", False))
        elif fault.kind == "clock steps":
            worker.clock_ahead_ms += round(fault.for_ms)
        elif fault.kind != "leave":
            happen()
        elif self._target_workers > 1:
            self._target_workers -= 1
            worker.leave()

    def _on_request(self, process: Process, name: str) -> float:
        """Begin an armed fault for such a request; the server then perhaps takes its time, and ends it when the
        process is long dead.
        """
        write, steps, happen = self._armed.get(process, ("", 0, None))
        if write != name or happen is None:
            return 0.0
        del self._armed[process]
        process.after_steps = (steps, happen)
        return self.rng.uniform(0.0, UNDER_WAY_MS) if self.rng.random() < 0.5 else 0.0

    def _heal(self) -> None:
        """End all faults."""
        self.world.note("fault", "none any more")
        self.store.heal()
        self._armed.clear()
        self.around.stalled_until_ms = 0.0
        self.around.ways = Ways(fetch_ms=1.0, commit_every_s=0.5, vouching=self.around.ways.vouching)
        for worker in self.alive:
            worker.process.after_steps, worker.isolated = None, False
            worker.process.go_on()

    # -- the end -------------------------------------------------------------------------------------------------------

    def _check_commit(self, member: str, offsets: Mapping[TopicPartition, int]) -> None:
        for (topic, partition), offset in offsets.items():
            mark = self.store.tables.load_checkpoint(LOG_ID, partition)
            column = "power_offset" if topic == topics.POWER else "tokens_offset"
            if mark is None or offset > mark[column]:
                stored = mark and mark[column]
                self.world.violated(f"{member} committed {topic}/{partition} {offset}, but only {stored} is stored")

    def _left(self) -> str:
        ends = self.log.ends()
        behind = {tp: (at, ends[tp]) for tp, at in self.group.committed.items() if at < ends[tp]}
        open_ = {w.name: [state.counters() for state in w.stream_worker._assignment.partitions()] for w in self.alive}
        return f"committed of end {behind}; held {self.group.holders()}; open {open_}"

    def _drained(self) -> bool:
        """Everything on the log is committed, and no window is open."""
        if self.group.committed != self.log.ends() or len(self.group.holders()) < self.plan.partitions:
            return False
        states = [state for w in self.alive for state in w.stream_worker._assignment.partitions()]
        return not any(s.counters().open_windows for s in states)


@contextmanager
def _logged(world: World) -> Iterator[None]:
    """The log of the workers becomes part of the trace, if there is one."""
    handler = _TraceHandler(world)
    before = (_log.propagate, _log.level, _log.disabled)
    _log.propagate, _log.disabled = False, world.lines is None
    _log.setLevel(logging.INFO)
    _log.addHandler(handler)
    try:
        yield
    finally:
        _log.removeHandler(handler)
        _log.propagate, _log.level, _log.disabled = before


class _TraceHandler(logging.Handler):
    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    def emit(self, record: logging.LogRecord) -> None:
        self._world.note("says", "{}", record.getMessage())
