"""Rule that resolves the claims on devices into the shares of each GPU. Pure.

* MIG: by compute slices. An instance counts its own slices of its board's (1g.5gb is 1 of 7). Slices of instances
  without a holder, and slices without an instance, are unallocated.

* Time-slicing: each claimed replica counts the same. A replica that no pod claims counts nothing, because the holders
  of the others run on the whole GPU.

* Processes: each workload counts the same, however many processes it has.

* A replica that two workloads claim is unallocated, with a warning.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fractions import Fraction
from math import gcd, lcm

from producers.bindings.apportion import Binding, BindingShare, GpuShares
from producers.bindings.claims import BindingWarning, Boards, DeviceClaim, WorkloadHolder

SharesByGpu = Mapping[str, GpuShares]
"""Shares of each GPU by UUID. A GPU that is not in it is unallocated."""
_Claimants = list[WorkloadHolder | None]


def resolve_claims(
    boards: Boards, claims: Iterable[DeviceClaim], unallocated: Binding
) -> tuple[dict[str, GpuShares], list[BindingWarning]]:
    """Return the shares of each GPU, and warnings. Unclaimed parts of a GPU in use are `unallocated`."""
    devices = {board.uuid: (board.uuid, board.slices) for board in boards}
    devices |= {uuid: (board.uuid, slices) for board in boards for uuid, slices in board.instances}
    replicas: dict[str, dict[str, _Claimants]] = {}
    warnings: list[BindingWarning] = []
    for claim in claims:
        if claim.device in devices:
            claimants = replicas.setdefault(claim.device, {}).setdefault(claim.replica, [])
            if claim.holder not in claimants:
                claimants.append(claim.holder)
        else:
            holder = claim.holder.workload if claim.holder else "an unknown holder"
            message = f"{holder} holds {claim.device}, which is no GPU that is visible here"
            warnings.append(BindingWarning("unknown_device", message))
    parts: dict[str, dict[WorkloadHolder | None, Fraction]] = {}
    for device, claimants_by_replica in replicas.items():
        gpu, slices = devices[device]
        warnings += _add_parts(parts.setdefault(gpu, {}), device, slices, claimants_by_replica)
    slices_by_gpu = {board.uuid: board.slices for board in boards}
    return {gpu: _shares(held, slices_by_gpu[gpu], unallocated) for gpu, held in parts.items()}, warnings


def _add_parts(
    parts: dict[WorkloadHolder | None, Fraction], device: str, slices: int,
    claimants_by_replica: Mapping[str, _Claimants],
) -> list[BindingWarning]:  # fmt: skip
    """Add a device's slices to the parts of its holders; return a warning for each replica with a conflict."""
    warnings = []
    for replica, claimants in claimants_by_replica.items():
        holders = claimants
        if _is_conflict(claimants):
            names = " and ".join(sorted(h.workload if h else "an unknown holder" for h in claimants))
            name = f"{device}::{replica}" if replica else device
            message = f"{names} both claim {name}: it is unallocated until one of them releases it"
            warnings.append(BindingWarning("conflict", message))
            holders = [None]
        for holder in holders:
            part = Fraction(slices, len(claimants_by_replica) * len(holders))
            parts[holder] = parts.get(holder, Fraction()) + part
    return warnings


def _is_conflict(claimants: _Claimants) -> bool:
    return len({(h.workload, h.tenant) if h else None for h in claimants}) > 1


def _shares(parts: Mapping[WorkloadHolder | None, Fraction], slices: int, unallocated: Binding) -> GpuShares:
    """Return parts of `slices` as shares with whole weights, in the order of names. The unallocated share is last."""
    known = {holder: part for holder, part in parts.items() if holder is not None}
    # Never below 0: a board that is claimed as a whole and by its instances is over-claimed, and split as claimed.
    left = max(slices - sum(known.values()), Fraction())
    scale = lcm(left.denominator, *(part.denominator for part in known.values()))
    weights = [int(part * scale) for part in (*known.values(), left)]
    common = gcd(*weights)
    shares = [holder.share(weight // common) for holder, weight in zip(known, weights, strict=False)]
    shares.sort(key=lambda s: (s.binding.workload, s.binding.owner, s.about))
    return (*shares, BindingShare(unallocated, weights[-1] // common)) if left else tuple(shares)
