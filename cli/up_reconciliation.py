"""Reconciliation of `wattlog up`, once an hour."""

from __future__ import annotations

from collections.abc import Callable

from contracts.units import MS_PER_HOUR
from warehouse.reader import LedgerReader
from warehouse.reconciliation.records import ReconciliationFinding, newest_run, reconcile


class HourlyReconciliation:
    """Compares what two sources tell where the newest stored run is an hour old, and warns of each new finding once."""

    def __init__(self, warn: Callable[[str], None]) -> None:
        self._warn = warn
        self._known: set[tuple[str, ...]] = set()

    def run_if_due(self, reader: LedgerReader, now_ms: int) -> None:
        """Compare if it is due. A finding that ended and came back is new."""
        last_ms = newest_run(reader).run_at
        if last_ms is not None and 0 <= now_ms - last_ms < MS_PER_HOUR:
            return
        findings = {_identity(finding): finding for finding in reconcile(reader, now_ms).findings}
        for identity, finding in findings.items():
            if identity not in self._known:
                self._warn(f"two sources differ: {finding.says}")
        self._known = set(findings)


def _identity(finding: ReconciliationFinding) -> tuple[str, ...]:
    return finding.cluster, finding.workload, finding.tenant, finding.kind, finding.source, finding.second_source
