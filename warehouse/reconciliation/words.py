"""Findings in words. Pure."""

from __future__ import annotations

from warehouse.reconciliation.witnesses import ENERGY, Discrepancy
from warehouse.reconciliation.witnesses import DiscrepancyKind as Kind

_SILENCE = {
    "wall": ", or shows less than the GPUs in it, which is impossible",
    "ledger": ": its sender is down, or calls pass it by",
}
"""What the silence of a source may be besides. Agents leave out a wall that is less than its GPUs, and say so in their
log. The ledger has what gateways send: without calls they say nothing, but here the servers had some."""
_QUANTITIES = {ENERGY: "energy"}


def say(finding: Discrepancy) -> str:
    """Return one sentence: who, what, how much, and which source is likely the cause."""
    first, second = finding.amounts
    sums = f"{finding.first} {_amount(first, finding)}, {finding.second} {_amount(second, finding)}"
    return f"{_name(finding)}: {_verdict(finding)} ({_quantities(finding)}: {sums})"


def _name(finding: Discrepancy) -> str:
    cluster, workload, tenant = finding.subject
    name = f"all workloads of {cluster}" if workload == "*" else f"{cluster}/{workload}"
    return f"{name}, tenant {tenant}" if tenant else name


def _verdict(finding: Discrepancy) -> str:
    source, other = finding.source, finding.second if finding.source == finding.first else finding.first
    first, second = finding.amounts
    share = abs(first - second) / max(first, second, 1.0)
    if finding.kind is Kind.MAPPING and finding.other is not None:
        to = finding.other.tenant or finding.other.workload
        return f"{source} counts it under {to}: a wrong mapping"
    return {
        Kind.SWAPPED: f"{source} interchanges prompt and completion",
        Kind.CACHED: f"{source} adds cached tokens to the prompt, or leaves them out of it",
        Kind.SHIFTED: f"{source} is shifted: {finding.first} runs {_hours(finding.hours_shifted)} {finding.second}",
        Kind.SILENT: f"{source} is silent while {other} goes on" + _SILENCE.get(source, ""),
        Kind.MISSING: f"a part of {source} is silent: fewer of its pages or devices report than before",
        Kind.FACTOR: f"{source} is off by a factor of {_ratio(finding.ratio)}: a wrong unit?",
        Kind.DOUBLED: f"{source} counts {'everything' if share > 0.45 else f'{100 * share:.2g} %'} twice",
        Kind.EXCESS: f"{source} counts more than {other}: {_excess(finding)}",
        Kind.LOST: f"{source} lacks {100 * share:.2g} % of what {other} counts: lost",
    }.get(finding.kind, finding.kind)


def _excess(finding: Discrepancy) -> str:
    if finding.first == "GPUs":
        return "a part cannot be more than the whole"
    return "several servers behind one address, one thing twice, or several answers to one prompt (n)?"


def _hours(hours: float) -> str:
    text = f"{abs(hours):.2g} h" if abs(hours) >= 1 else f"{60 * abs(hours):.0f} min"
    return f"{text} {'behind' if hours > 0 else 'ahead of'}"


def _ratio(ratio: float) -> str:
    """Return how many times, to two digits."""
    size = float(f"{max(ratio, 1 / ratio):.2g}") if ratio else 0.0
    return f"{size:,.0f}" if size >= 10 else f"{size:g}"


def _quantities(finding: Discrepancy) -> str:
    return ", ".join(_QUANTITIES.get(quantity, quantity.replace("_", " ")) for quantity in finding.quantities)


def _amount(value: float, finding: Discrepancy) -> str:
    return f"{value / 1e6:,.0f} J" if finding.quantities[0] == ENERGY else f"{value:,.0f}"
