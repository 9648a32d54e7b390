"""Explanation of a charge as a tree for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text
from rich.tree import Tree

from cli.output import SIMULATED
from contracts.boundary import Boundary, part_of
from contracts.units import rfc3339, shortest_decimal

if TYPE_CHECKING:
    from warehouse.ledger.explained_charge import ExplainedRow, Explanation

_PRICE = {"energy": "tariff", "pue": "PUE", "carbon": "carbon intensity"}


def charge_tree(explanation: Explanation) -> Tree:
    """Return the tree, top down: money, energy, share of work, measurements. It has every factor of the charge."""
    e = explanation
    money = f"{e.cost:f} {e.currency}" if e.cost is not None else "open" if e.unmetered_tokens else "no price"
    head = Text(f"{e.tenant}, {rfc3339(e.window_start)} to {rfc3339(e.window_end)}: ", style="bold")
    head.append(f"{e.energy_uj:,} µJ, {money}", style="bold green")
    if e.simulated:
        head.append("  ").append(SIMULATED, style="bold black on yellow")
    root = Tree(head)
    for part in e.parts:
        _add(root, part, e.currency)
    return root


def _add(root: Tree, part: ExplainedRow, currency: str) -> None:
    row = part.row
    where = f"{row.cluster}/{row.workload}"
    model = " on ".join(name for name in (row.model, row.hardware) if name)
    branch = root.add(Text(f"{where}{', ' + model if model else ''}: {row.energy_uj:,} µJ", style="bold"))
    branch.add(Text(_cost(part, currency)))
    for price in part.prices:
        unit = {"energy": f"{price.currency}/kWh", "pue": "", "carbon": "gCO2eq/kWh"}[price.kind]
        scope = "any cluster" if price.cluster == "*" else price.cluster
        source = f", {price.source}" if price.source else ""
        branch.add(
            Text(
                f"{_PRICE[price.kind]} {shortest_decimal(price.value)} {unit}".rstrip() + f" ({scope}{source})",
                style="dim",
            )
        )
    for lacks in part.missing_prices:
        kind, inside, _ = lacks.partition(" within windows")
        says = f"the {_PRICE[kind]} changes inside the window" if inside else f"no {_PRICE[kind]} is valid at that time"
        branch.add(Text(says, style="yellow"))
    energy = branch.add(
        Text(f"{row.active_uj:,} active + {row.idle_uj:,} idle + {row.unallocated_uj:,} unallocated µJ")
    )
    _share(energy, part)
    _measured(branch, part)


def _cost(part: ExplainedRow, currency: str) -> str:
    if part.kwh is None:
        return "no energy of this workload was measured in the window: its cost is open"
    facility = "?" if part.kwh_facility is None else f"{part.kwh_facility:f}"
    cost = "no price" if part.cost is None else f"{part.cost:f} {currency}"
    return f"{part.kwh:f} kWh, with PUE {facility} kWh: {cost}"


def _share(branch: Tree, part: ExplainedRow) -> None:
    share, weights = part.share, part.weights
    if share.ratio is None:
        branch.add(Text("no work in this window"))
        return
    branch.add(
        Text(
            f"its work / all work = {share.work / 1000:,.3f} / {share.whole_work / 1000:,.3f} = "
            f"{100 * share.ratio:.4f} % of {share.whole_active_uj:,} active and {share.whole_idle_uj:,} idle µJ"
        )
    )
    row = part.row
    if part_of(row.hardware) is not Boundary.GPU and share.work != row.work:
        branch.add(Text("its tokens count at the GPUs beside it", style="dim"))
    elif weights.request_second_milli:
        branch.add(
            Text(
                f"work = request-seconds: no request of the window had token work (weights version {weights.version})",
                style="dim",
            )
        )
    elif weights.prompt_milli is not None and weights.cached_milli is not None and weights.completion_milli is not None:
        branch.add(
            Text(
                f"work = {weights.prompt_milli / 1000:g} x computed + {weights.cached_milli / 1000:g} x cached + "
                f"{weights.completion_milli / 1000:g} x completion tokens (weights version {weights.version}); "
                f"{row.prompt_tokens:,} prompt, {row.cached_tokens:,} of them cached, "
                f"{row.completion_tokens:,} completion",
                style="dim",
            )
        )


def _measured(branch: Tree, part: ExplainedRow) -> None:
    measured, floor = part.measured, part.floor
    seconds = "GPU seconds" if part_of(part.row.hardware) is Boundary.GPU else "seconds"
    comparison = "as" if measured.energy_uj == measured.ledger_uj else f"but {measured.ledger_uj:,} µJ is what"
    node = branch.add(
        Text(f"{_devices(part)} measured {measured.energy_uj:,} µJ, {comparison} the ledger charged to all tenants")
    )
    if floor.idle_mw is not None:
        node.add(
            Text(
                f"idle = {floor.idle_mw / 1000:g} W x {measured.covered_ms / 1000:,.3f} {seconds} = "
                f"{floor.idle_uj:,} µJ (floor version {floor.version})",
                style="dim",
            )
        )
    for interval in measured.intervals:
        mean_w = f"{interval.energy_uj / interval.covered_ms / 1000:,.1f} W" if interval.covered_ms else "-"
        late = ", late" if interval.late else ""
        node.add(
            Text(
                f"{interval.node} {interval.gpu_uuid}: {interval.energy_uj:,} µJ, mean {mean_w} "
                f"({interval.method}{late})"
            )
        )
    if len(measured.intervals) < measured.devices:
        node.add(Text(f"and {measured.devices - len(measured.intervals)} more", style="dim"))


def _devices(part: ExplainedRow) -> str:
    name = {Boundary.GPU: "GPU", Boundary.HOST: Boundary.HOST, Boundary.WALL: "wall meter"}[part_of(part.row.hardware)]
    return f"{part.measured.devices} {name}{'s' * (part.measured.devices > 1)}"
