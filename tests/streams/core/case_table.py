"""Specifications as tables: one line an event or a step, then `=`, then one line a ledger row.

    power  WORKLOAD GPU HARDWARE FROM..TO ENERGY                          [owner= method= from= seq= node=]
    tokens WORKLOAD TENANT MODEL ID START[/FIRST]..END PROMPT[-CACHED]+COMPLETION      [error from= seq=]
    beat   TIME                                       both topics say: complete up to here
    again                                             the last message once more
    -- read | flush | provisional | die at N          the worker reads all there is, and does this
    -- die                                            the worker dies as it stands, and its successor starts
    =
    WINDOW WORKLOAD HARDWARE TENANT MODEL  active ENERGY idle ENERGY unallocated ENERGY tokens P/CACHED/COMPLETION ...

Times are seconds after T0, energies end in J or uJ, `-` is an empty name. What a row's line does not name is 0, but for
the columns of `_ASIDE`, which are compared where they are named. Without steps the log is closed and read to its end.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from contracts.events import Method
from streams.core.attribution.policy import Policy
from streams.core.decoding import PartitionConfig
from tests.support.oracle import Interval, Request
from tests.support.partition_log import Died, Log, Worker, close, policy, power, tokens

T0 = 1_700_002_800_000
"""A full hour."""

_AMOUNTS = (
    "active_uj", "idle_uj", "unallocated_uj", "prompt_tokens", "cached_tokens", "completion_tokens",
    "requests", "failures",
)  # fmt: skip
_ASIDE = ("method", "revision", "final", "work", "weights_version", "floor_version")


def ms(text: str) -> int:
    return T0 + round(float(text) * 1000)


def uj(text: str) -> int:
    return int(text[:-2]) if text.endswith("uJ") else round(float(text.removesuffix("J")) * 1_000_000)


def _options(words: Iterable[str]) -> dict[str, str]:
    return dict(word.split("=", 1) for word in words if "=" in word)


class Play:
    """A log and its worker, driven by the lines."""

    def __init__(self, policy_: Policy | None, config: PartitionConfig | None) -> None:
        self.log = Log()
        self.worker = Worker(self.log, policy=policy_ or policy(), config=config)
        self.stepped = False
        self._last = None

    def line(self, line: str) -> None:
        kind, *words = line.split()
        getattr(self, {"--": "step"}.get(kind, kind))(words)

    def power(self, words: list[str]) -> None:
        workload, gpu, hardware, times, energy, *options = words
        o, (t0, t1) = _options(options), times.split("..")
        node = o.get("node", workload.removeprefix("~"))
        batch = power(
            [
                Interval(
                    cluster="c",
                    workload=workload,
                    node=node,
                    gpu=gpu,
                    hardware=hardware,
                    t0=ms(t0),
                    t1=ms(t1),
                    energy_uj=uj(energy),
                    owner=o.get("owner", ""),
                )
            ]
        )
        method = Method[o.get("method", "counter").upper()]
        busy = ms(o["busy"]) - T0 if "busy" in o else -1
        batch = replace(batch, method=np.array([method], np.uint8), busy_ms=np.array([busy], np.int64))
        self._append(batch, workload, o)

    def tokens(self, words: list[str]) -> None:
        workload, tenant, model, name, times, counts, *options = words
        (start, end), (prompt, completion) = times.split(".."), counts.split("+")
        start, _, first = start.partition("/")
        prompt, _, cached = prompt.partition("-")
        request = Request(
            cluster="c",
            workload=workload,
            tenant=tenant,
            model=model,
            request_id=name,
            start=ms(start),
            first=ms(first) if first else 0,
            end=ms(end),
            prompt=int(prompt),
            cached=int(cached or 0),
            completion=int(completion),
            ok="error" not in options,
        )
        self._append(tokens([request]), workload, _options(options))

    def beat(self, words: list[str]) -> None:
        self.log.append(power([], ms(words[0])), source="beat")
        self.log.append(tokens([], ms(words[0])), source="beat")

    def again(self, words: list[str]) -> None:
        self.log.repeat(self._last)

    def step(self, words: list[str]) -> None:
        self.stepped = True
        if words[0] == "die" and len(words) == 1:
            return self.worker.start()
        self.read()
        if words[0] == "provisional":
            self.worker.provisional()
        elif words[0] == "flush":
            while self.worker.flush():
                pass
        elif words[0] == "die":
            try:
                self.worker.flush(die_at=int(words[2]))
            except Died:
                self.worker.start()
        return None

    def read(self) -> None:
        for topic in self.log.messages:
            self.worker.read(topic, 10**6)

    def _append(self, batch, workload: str, o: dict[str, str]) -> None:
        seq = int(o["seq"]) if "seq" in o else None
        self._last = self.log.append(batch, workload=workload, source=o.get("from", "s"), seq=seq)


def play(table: str, *, policy: Policy | None = None, config: PartitionConfig | None = None) -> Play:
    """Run the lines of a table."""
    run = Play(policy, config)
    for line in _lines(table):
        run.line(line)
    if not run.stepped:
        close(run.log, T0 + 3_600_000)
        run.worker.run()
    return run


def spec(table: str, *, policy: Policy | None = None, config: PartitionConfig | None = None) -> Play:
    """Run the lines above `=`, and compare the ledger with the rows below it. The ledger must hold no other rows."""
    steps, _, expected = table.partition("\n        =\n")
    run = play(steps, policy=policy, config=config)
    expected_rows = dict(_row(line) for line in _lines(expected))
    actual = {}
    for row in run.worker.store.live("ledger"):
        key = (row["window_start"], row["workload"], row["hardware"], row["tenant"], row["model"])
        aside = {c: row[c] for c in _ASIDE if c in expected_rows.get(key, {})}
        actual[key] = {c: row[c] for c in _AMOUNTS if row[c]} | aside
    assert actual == expected_rows
    balanced(run)
    return run


def balanced(run: Play) -> None:
    """Requests' joules sum to their tenants', and the ledger's to the measured ones, in the windows it holds."""
    store = run.worker.store
    for column in ("active_uj", "idle_uj"):
        of_requests, of_tenants = {}, {}
        for rows, sums in ((store.live("request_energy"), of_requests), (store.live("ledger"), of_tenants)):
            for r in rows:
                key = (r["window_start"], r["workload"], r["tenant"], r["model"])
                if r[column] and r["model"] and r.get("final", 1):
                    sums[key] = sums.get(key, 0) + r[column]
        assert of_requests == of_tenants
    final = [r for r in store.live("ledger") if r["final"]]
    measured = sum(r["energy_uj"] for r in store.live("gpu_energy"))
    assert sum(r["active_uj"] + r["idle_uj"] + r["unallocated_uj"] for r in final) == measured


def _lines(table: str) -> Iterator[str]:
    for line in table.splitlines():
        line = line.partition("#")[0].strip()
        if line:
            yield line


def _row(line: str) -> tuple[tuple, dict[str, int]]:
    window, workload, *names = line.split()[:5]
    words = line.split()[5:]
    key = (ms(window), workload, *("" if n == "-" else n for n in names))
    amounts: dict[str, int] = {}
    for name, value in zip(words[::2], words[1::2], strict=True):
        if name in ("active", "idle", "unallocated"):
            amounts[f"{name}_uj"] = uj(value)
        elif name == "tokens":
            amounts |= dict(
                zip(("prompt_tokens", "cached_tokens", "completion_tokens"), map(int, value.split("/")), strict=True)
            )
        elif name == "method":
            amounts["method"] = Method[value.upper()]
        else:
            amounts[name] = int(value)
    return key, {c: v for c, v in amounts.items() if v or c in _ASIDE}
