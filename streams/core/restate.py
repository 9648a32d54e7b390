"""Facts, as the warehouse keeps them, to ledger rows: how a late fact gets into a window that is already final.

The facts of the window, late ones included, are attributed anew by the same function as always. The revision is the
number of late messages among the facts, so restating twice gives the same rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from contracts.rows import Table, concat, conform, keys, length, tombstones
from contracts.units import I64
from streams.core import versions
from streams.core.attribute import Attribution, Energy, Facts, Tokens, attribute, attribute_requests
from streams.core.policy import Policy
from streams.core.windows import AMOUNTS, codes, request_order, request_tokens


def facts_of(gpu_energy: Table, token_usage: Table) -> Facts:
    """Rows of the two facts tables as the columns that attribution takes."""
    n = length(gpu_energy)
    e_subjects = zip(gpu_energy["cluster"], gpu_energy["workload"], strict=True)
    t_subjects = zip(token_usage["cluster"], token_usage["workload"], strict=True)
    subject, subjects = codes([*e_subjects, *t_subjects])
    hardware, hardwares = codes(gpu_energy["hardware"])
    owner, owners = codes(gpu_energy["owner"])
    tenant, tenants = codes(token_usage["tenant"])
    model, models = codes(token_usage["model"])
    number = {c: np.asarray(gpu_energy[c], np.int64) for c in ("window_start", "energy_uj", "covered_ms", "method")}
    amounts = np.stack([np.asarray(token_usage[c], np.int64) for c in AMOUNTS])
    return Facts(
        subjects, hardwares, owners, tenants, models,
        Energy(number["window_start"], subject[:n], hardware, owner, number["energy_uj"], number["covered_ms"], number["method"]),
        Tokens(np.asarray(token_usage["window_start"], np.int64), subject[n:], tenant, model, amounts),
    )  # fmt: skip


def with_energy(rows: Table, attribution: Attribution, facts: Facts) -> Table:
    """Request rows with their `active_uj` and `idle_uj`."""
    active_uj, idle_uj = attribute_requests(attribution, request_tokens(facts, rows), request_order(rows))
    return {**rows, "active_uj": active_uj, "idle_uj": idle_uj}


def restate(stored: dict[str, Table], policy: Policy, epoch: int, **provenance: int | str) -> dict[str, Table]:
    """New `ledger` and `request_energy` rows for the windows whose facts these are.

    `stored` holds all live rows of gpu_energy, token_usage, request_energy and ledger of some (window, workload)s,
    the late ones already among them.
    """
    facts = facts_of(stored["gpu_energy"], stored["token_usage"])
    attribution = attribute(facts, policy)
    revision = _Revisions(stored["gpu_energy"], stored["token_usage"])
    window_ms = int(
        np.max(
            stored["gpu_energy"]["window_ms"] if length(stored["gpu_energy"]) else stored["token_usage"]["window_ms"]
        )
    )
    out: dict[str, Table] = {}
    ledger = attribution.ledger
    number = revision.of(ledger)
    version = [versions.final(epoch, int(r)) for r in number]
    out["ledger"] = conform(
        "ledger",
        {
            **ledger,
            "window_ms": window_ms,
            "revision": number,
            "final": 1,
            "deleted": 0,
            **provenance,
            "version": np.array(version, np.uint64),
        },
    )
    requests = stored["request_energy"]
    if length(requests):
        requests = with_energy(requests, attribution, facts)
        version = [versions.final(epoch, int(r)) for r in revision.of(requests)]
        out["request_energy"] = conform(
            "request_energy", {**requests, "deleted": 0, **provenance, "version": np.array(version, np.uint64)}
        )
    gone = sorted(set(keys("ledger", stored["ledger"])) - set(keys("ledger", out["ledger"])))
    if gone:
        at = versions.final(epoch, int(number.max(initial=0)))
        out["ledger"] = concat("ledger", [out["ledger"], tombstones("ledger", gone, **{**provenance, "version": at})])
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

    def of(self, table: Table) -> I64:
        return np.array([self._late.get(s, 0) for s in _windows(table)], np.int64)


def _windows(table: Table) -> Sequence[tuple[object, ...]]:
    starts = np.asarray(table["window_start"]).tolist()
    return list(zip(starts, table["cluster"], table["workload"], strict=True))
