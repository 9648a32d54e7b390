"""From claims to who holds which GPU: the rule by which a shared one is split. Pure.

* MIG: by compute slices. An instance counts its own of its board's (1g.5gb is 1 of 7); slices of instances that nobody
  holds, and those that no instance has, are nobody's.
* Time-slicing: each replica that is held counts the same. One that no pod holds counts nothing: whoever holds the
  others runs on the whole GPU.
* Processes: each workload counts the same, however many processes it has.
* A replica that two workloads claim is neither's: nobody's, and told.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fractions import Fraction
from math import gcd, lcm

from producers.bindings.apportion import Binding, BindingShare, GpuShares
from producers.bindings.claims import BindingWarning, Boards, DeviceClaim, WorkloadHolder

SharesByGpu = Mapping[str, GpuShares]
"""By GPU, who holds it. A GPU that is not in it is nobody's."""


def resolve_claims(
    topology: Boards, claims: Iterable[DeviceClaim], nobody: Binding
) -> tuple[dict[str, GpuShares], list[BindingWarning]]:
    """Who holds which GPU by these claims; `nobody` has what of a GPU in use is unclaimed."""
    devices = {board.uuid: (board.uuid, board.slices) for board in topology}
    devices |= {uuid: (board.uuid, slices) for board in topology for uuid, slices in board.instances}
    replicas: dict[str, dict[str, list[WorkloadHolder | None]]] = {}
    odd: list[BindingWarning] = []
    for claim in claims:
        if claim.device in devices:
            holders = replicas.setdefault(claim.device, {}).setdefault(claim.replica, [])
            if claim.holder not in holders:
                holders.append(claim.holder)
        else:
            whose = claim.holder.workload if claim.holder else "somebody"
            odd.append(
                BindingWarning("unknown_device", f"{whose} holds {claim.device}, which is no GPU that is seen here")
            )
    parts: dict[str, dict[WorkloadHolder | None, Fraction]] = {}
    for device, claimed in replicas.items():
        gpu, slices = devices[device]
        mine = parts.setdefault(gpu, {})
        for replica, holders in claimed.items():
            if _contested(holders):
                names = " and ".join(sorted(h.workload if h else "somebody" for h in holders))
                which = f"{device}::{replica}" if replica else device
                odd.append(BindingWarning("conflict", f"{names} both claim {which}: nobody holds it until one lets go"))
                holders = [None]
            for holder in holders:
                part = Fraction(slices, len(claimed) * len(holders))
                mine[holder] = mine.get(holder, Fraction()) + part
    boards = {board.uuid: board for board in topology}
    return {gpu: _holding(mine, boards[gpu].slices, nobody) for gpu, mine in parts.items()}, odd


def _contested(holders: list[WorkloadHolder | None]) -> bool:
    return len({(h.workload, h.tenant) if h else None for h in holders}) > 1


def _holding(parts: Mapping[WorkloadHolder | None, Fraction], slices: int, nobody: Binding) -> GpuShares:
    """Parts of so many slices as shares with whole weights, in the order of names; nobody's comes last."""
    known = {holder: part for holder, part in parts.items() if holder is not None}
    # Never below 0: a board that is claimed whole and by its instances too is over-claimed, and split as claimed.
    left = max(slices - sum(known.values()), Fraction())
    scale = lcm(left.denominator, *(part.denominator for part in known.values()))
    weights = [int(part * scale) for part in (*known.values(), left)]
    common = gcd(*weights)
    shares = [holder.share(weight // common) for holder, weight in zip(known, weights, strict=False)]
    shares.sort(key=lambda s: (s.binding.workload, s.binding.owner, s.about))
    return (*shares, BindingShare(nobody, weights[-1] // common)) if left else tuple(shares)
