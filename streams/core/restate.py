"""Facts, as the warehouse keeps them, to ledger rows: how a late fact gets into a window that is already final.

The facts of the window, late ones included, are attributed anew by the same function as always. The revision is the
number of late messages among the facts, so restating twice gives the same rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from contracts.coded import Coded
from contracts.rows import Column, Table, concat, conform, keys, length, tombstones
from streams.core import versions
from streams.core.attribute import attribute
from streams.core.facts import AMOUNTS, Energy, Facts, Tokens
from streams.core.policy import Policy
from streams.core.requests import with_energy


def facts_of(gpu_energy: Table, token_usage: Table) -> Facts:
    """Rows of the two facts tables as the columns that attribution takes."""
    n = length(gpu_energy)
    e_subjects = zip(gpu_energy["cluster"], gpu_energy["workload"], strict=True)
    t_subjects = zip(token_usage["cluster"], token_usage["workload"], strict=True)
    subject = Coded.of([*e_subjects, *t_subjects])
    hardware, owner = (Coded.of(list(gpu_energy[c])) for c in ("hardware", "owner"))
    tenant, model = (Coded.of(list(token_usage[c])) for c in ("tenant", "model"))
    window_start, energy_uj, covered_ms, method = (
        np.asarray(gpu_energy[c], np.int64) for c in ("window_start", "energy_uj", "covered_ms", "method")
    )
    amounts = np.stack([np.asarray(token_usage[c], np.int64) for c in AMOUNTS])
    return Facts(
        subject.names, hardware.names, owner.names, tenant.names, model.names,
        Energy(window_start, subject.codes[:n], hardware.codes, owner.codes, energy_uj, covered_ms, method),
        Tokens(
            np.asarray(token_usage["window_start"], np.int64), subject.codes[n:], tenant.codes, model.codes, amounts
        ),
    )  # fmt: skip


def restate(stored: dict[str, Table], policy: Policy, epoch: int, **provenance: int | str) -> dict[str, Table]:
    """New `ledger` and `request_energy` rows for the windows whose facts these are.

    `stored` holds all live rows of gpu_energy, token_usage, request_energy and ledger of some (window, workload)s,
    the late ones already among them.
    """
    facts = facts_of(stored["gpu_energy"], stored["token_usage"])
    attribution = attribute(facts, policy)
    revisions = _Revisions(stored["gpu_energy"], stored["token_usage"])

    def stamped(rows: Table) -> dict[str, Column | int | str]:
        """The rows with their provenance: what a restatement says supersedes what the one before said."""
        version = [versions.final(epoch, revision) for revision in revisions.of(rows)]
        return {**rows, **provenance, "deleted": 0, "version": np.array(version, np.uint64)}

    window_ms = max(int(np.max(stored[t]["window_ms"], initial=0)) for t in ("gpu_energy", "token_usage"))
    revision = revisions.of(attribution.ledger)
    ledger = conform(
        "ledger",
        {**stamped(attribution.ledger), "window_ms": window_ms, "revision": np.array(revision, np.int64), "final": 1},
    )
    gone = sorted(set(keys("ledger", stored["ledger"])) - set(keys("ledger", ledger)))
    if gone:
        at = versions.final(epoch, max(revision, default=0))
        ledger = concat("ledger", [ledger, tombstones("ledger", gone, **{**provenance, "version": at})])
    out = {"ledger": ledger}
    if length(stored["request_energy"]):
        requests = with_energy(stored["request_energy"], attribution, facts)
        out["request_energy"] = conform("request_energy", stamped(requests))
    return out


class _Revisions:
    """How many late messages each (window, workload) has."""

    def __init__(self, gpu_energy: Table, token_usage: Table) -> None:
        late: dict[tuple[object, ...], set[tuple[int, int]]] = {}
        for which, table in enumerate((gpu_energy, token_usage)):
            ids = np.asarray(table["late_id"]).tolist()
            for subject, late_id in zip(_windows(table), ids, strict=True):
                if late_id:
                    late.setdefault(subject, set()).add((which, late_id))
        self._late = {subject: len(ids) for subject, ids in late.items()}

    def of(self, table: Table) -> list[int]:
        return [self._late.get(s, 0) for s in _windows(table)]


def _windows(table: Table) -> Sequence[tuple[object, ...]]:
    starts = np.asarray(table["window_start"]).tolist()
    return list(zip(starts, table["cluster"], table["workload"], strict=True))
