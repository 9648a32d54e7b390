"""An independent, slow, scalar attribution: Python integers and fractions, one row at a time.

It shares no code with streams/core. From plain intervals and requests it computes the final ledger, for comparison with
the fast path (batches, order, restarts, late facts).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple


class Interval(NamedTuple):
    cluster: str
    workload: str
    node: str
    gpu: str
    hardware: str
    t0: int
    t1: int
    energy_uj: int
    owner: str = ""


class Request(NamedTuple):
    cluster: str
    workload: str
    tenant: str
    model: str
    request_id: str
    start: int
    first: int
    end: int
    prompt: int
    cached: int
    completion: int
    ok: bool = True
    number: int = 1
    """Requests that the row stands for."""


def cut(amount: int, p0: int, p1: int, start: int, end: int, window_ms: int) -> dict[int, int]:
    """Amount spread over [p0, p1), by the windows of [start, end)."""
    first, last = start // window_ms, max(end - 1, start) // window_ms

    def until(t: int) -> int:
        if t <= p0:
            return 0
        return amount if t >= p1 else amount * (t - p0) // (p1 - p0)

    out, before = {}, 0
    for w in range(first, last + 1):
        upto = amount if w == last else until((w + 1) * window_ms)
        out[w] = upto - before
        before = upto
    return out


def largest_remainder(total: int, weights: list[int]) -> list[int]:
    """Apportion `total` by `weights`, equal remainders in order; all parts are 0 where the weights are."""
    sum_of_weights = sum(weights)
    if sum_of_weights == 0:
        return [0] * len(weights)
    parts = [total * w // sum_of_weights for w in weights]
    order = sorted(range(len(weights)), key=lambda i: (-(total * weights[i] % sum_of_weights), i))
    for i in order[: total - sum(parts)]:
        parts[i] += 1
    return parts


def is_gpu(hardware: str) -> bool:
    """Return False for a node's host and what is measured at its wall."""
    return hardware != "host" and not hardware.startswith("wall ")


Entry = tuple[Any, ...]
"""The key of a row, or its amounts."""


class Oracle:
    """The attribution of a list of rows: the sums that the ledger and the fact tables must hold."""

    def __init__(
        self,
        window_ms: int = 10_000,
        floors: Mapping[str, int] | None = None,
        weights: tuple[int, int, int] = (1000, 0, 3000),
        idle: str = "by-work",
    ) -> None:
        self.window_ms, self.floors, self.weights, self.idle = window_ms, floors or {}, weights, idle

    def ledger(self, intervals: Iterable[Interval], requests: Iterable[Request]) -> dict[Entry, Entry]:
        """(window_start, cluster, workload, hardware, tenant, model) -> (active, idle, unallocated, prompt, cached,
        completion, requests, failures).
        """
        energy: dict[Entry, int] = defaultdict(int)
        covered: dict[Entry, int] = defaultdict(int)
        owners: dict[Entry, str] = defaultdict(str)
        for i in intervals:
            for w, (uj, ms) in self._spent(i):
                group = (w, i.cluster, i.workload)
                energy[group, i.hardware] += uj
                covered[group, i.hardware] += ms
                owners[group, i.hardware] = max(owners[group, i.hardware], i.owner)
        work: dict[Entry, list[int]] = defaultdict(lambda: [0] * 9)
        for r in requests:
            for w, amounts in self._work_by_window(r):
                row = work[(w, r.cluster, r.workload), r.tenant, r.model]
                for k, amount in enumerate(amounts):
                    row[k] += amount
        return self._rows(energy, covered, owners, work)

    def measured(self, intervals: Iterable[Interval]) -> dict[Entry, Entry]:
        """gpu_energy: (window_start, cluster, workload, node, gpu) -> (energy, covered ms, hardware, owner)."""
        out: dict[Entry, list[Any]] = {}
        for i in intervals:
            for w, (uj, ms) in self._spent(i):
                row = out.setdefault((w * self.window_ms, i.cluster, i.workload, i.node, i.gpu), [0, 0, "", ""])
                row[0], row[1] = row[0] + uj, row[1] + ms
                row[2], row[3] = max(row[2], i.hardware), max(row[3], i.owner)
        return {k: tuple(v) for k, v in out.items()}

    def used(self, requests: Iterable[Request]) -> dict[Entry, Entry]:
        """token_usage: (window_start, cluster, workload, tenant, model) -> (prompt, cached, completion; computed,
        cached, completion thousandths; request ms; requests, failures).
        """
        out: dict[Entry, list[int]] = defaultdict(lambda: [0] * 9)
        for r in requests:
            for w, amounts in self._work_by_window(r):
                row = out[w * self.window_ms, r.cluster, r.workload, r.tenant, r.model]
                for k, amount in enumerate(amounts):
                    row[k] += amount
        return {k: tuple(v) for k, v in out.items()}

    def by_request(self, intervals: Iterable[Interval], requests: Iterable[Request]) -> dict[Entry, Entry]:
        """request_energy, of requests with distinct ids: (window_start, cluster, workload, tenant, model, request_id)
        -> (prompt, cached, completion, active, idle). A ledger row's energy is shared among its requests by work.
        """
        did: dict[Entry, list[tuple[Request, list[int]]]] = defaultdict(list)
        for r in requests:
            for w, amounts in self._work_by_window(r):
                did[w * self.window_ms, r.cluster, r.workload, r.tenant, r.model].append((r, amounts))
        out: dict[Entry, list[int]] = {}
        for group, here in did.items():
            here.sort(key=lambda one: (one[0].request_id, one[0].start, one[0].end))
            for r, amounts in here:
                out[(*group, r.request_id)] = [*amounts[:3], 0, 0]
        with_tokens = {
            group[:3] for group, here in did.items() if any(self._token_work(amounts) // 1000 for _, amounts in here)
        }
        for (start, cluster, workload, _, tenant, model), row in self.ledger(intervals, requests).items():
            here = did.get((start, cluster, workload, tenant, model), [])
            if (start, cluster, workload) in with_tokens:
                work = [self._token_work(amounts) for _, amounts in here]
            else:
                work = [amounts[6] for _, amounts in here]
            for column, energy in ((3, row[0]), (4, row[1])):
                for (r, _), part in zip(here, largest_remainder(energy, work), strict=True):
                    out[start, cluster, workload, tenant, model, r.request_id][column] += part
        return {k: tuple(v) for k, v in out.items()}

    def _spent(self, i: Interval) -> Iterator[tuple[int, tuple[int, int]]]:
        """(window number, (energy, covered ms)) of one interval."""
        w_ms = self.window_ms
        for w, uj in cut(i.energy_uj, i.t0, i.t1, i.t0, i.t1, w_ms).items():
            yield w, (uj, min(i.t1, (w + 1) * w_ms) - max(i.t0, w * w_ms))

    def _work_by_window(self, r: Request) -> Iterator[tuple[int, list[int]]]:
        """(window number, work) of one request, for the windows in which it did any."""
        first_a, first_b = (r.first, r.first) if r.first else (r.end, r.start)
        spans = [
            (r.prompt, r.start, first_a), (r.cached, r.start, first_a), (r.completion, first_b, r.end),
            ((r.prompt - r.cached) * 1000, r.start, first_a), (r.cached * 1000, r.start, first_a),
            (r.completion * 1000, first_b, r.end),
        ]  # fmt: skip
        w_ms = self.window_ms
        cuts = [cut(a, p0, p1, r.start, r.end, w_ms) for a, p0, p1 in spans]
        last = max(cuts[0])
        for w in cuts[0]:
            ran_ms = max(1, min(r.end, (w + 1) * w_ms) - max(r.start, w * w_ms)) * r.number
            amounts = [c[w] for c in cuts] + [ran_ms, r.number * (w == last), r.number * (w == last and not r.ok)]
            if any(amounts):
                yield w, amounts

    def _token_work(self, amounts: list[int]) -> int:
        """Work in millionths."""
        return sum(w * a for w, a in zip(self.weights, amounts[3:6], strict=True))

    def _rows(
        self,
        energy: Mapping[Entry, int],
        covered: Mapping[Entry, int],
        owners: Mapping[Entry, str],
        amounts: Mapping[Entry, list[int]],
    ) -> dict[Entry, Entry]:
        rows: dict[Entry, list[int]] = defaultdict(lambda: [0] * 8)
        groups = {g for g, _ in energy} | {g for g, _, _ in amounts}
        for g in groups:
            hardwares = sorted(h for g2, h in energy if g2 == g)
            payers = sorted((t, m) for g2, t, m in amounts if g2 == g)
            where = (g[0] * self.window_ms, g[1], g[2])
            if g[2].startswith("~"):
                for h in hardwares:
                    rows[(*where, h, "__unallocated__", "")][2] += energy[g, h]
                hardwares = []
            if not hardwares:
                for t, m in payers:
                    for k, amount in enumerate([*amounts[g, t, m][:3], *amounts[g, t, m][7:]]):
                        rows[(*where, "", t, m)][3 + k] += amount
                continue
            gpus_uj = sum(energy[g, h] for h in hardwares if is_gpu(h))
            by_energy = [0 if gpus_uj and not is_gpu(h) else max(energy[g, h], 1) for h in hardwares]
            split = {
                (t, m): [largest_remainder(amounts[g, t, m][k], by_energy) for k in (0, 1, 2, 7, 8)] for t, m in payers
            }
            for n, h in enumerate(hardwares):
                e = energy[g, h]
                idle = min(e, self.floors.get(h, 0) * covered[g, h])
                work = [self._token_work(amounts[g, t, m]) // 1000 for t, m in payers]
                if not any(work):
                    work = [amounts[g, t, m][6] for t, m in payers]
                for t, m in payers:
                    for k in range(5):
                        rows[(*where, h, t, m)][3 + k] += split[t, m][k][n]
                owner = owners[g, h] or "__idle__"
                if sum(work) == 0:
                    rows[(*where, h, owner, "")][1] += e
                    continue
                for (t, m), a in zip(payers, largest_remainder(e - idle, work), strict=True):
                    rows[(*where, h, t, m)][0] += a
                if self.idle == "by-work":
                    for (t, m), i in zip(payers, largest_remainder(idle, work), strict=True):
                        rows[(*where, h, t, m)][1] += i
                elif idle:
                    rows[(*where, h, owner if self.idle == "owner" else "__idle__", "")][1] += idle
        # A request without tokens that ran on while others worked has no row there.
        ran_on = {
            (g[0] * self.window_ms, g[1], g[2], t, m)
            for (g, t, m), of in amounts.items()
            if not any([*of[:6], *of[7:]])
        }
        return {k: tuple(v) for k, v in rows.items() if any(v) or (*k[:3], *k[4:]) not in ran_on}
