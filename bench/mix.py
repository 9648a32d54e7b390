"""How much does a record cost where requests are few, and where they are many? A request is dearer than a reading: it
has names, it runs through windows, and it is stored by itself unless the setting `requests` says not to.

`python -m bench.mix [--quick]`. Our worker on messages of 64 rows, a backlog a share. Writes build/bench/mix.json.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.harness import reports
from bench.harness.broker import broker
from bench.harness.line_up import PACKED, line_up
from bench.harness.progress import shown
from bench.speed import QUICK_ROWS, fleet_for, measure

SHARES = (0.01, 0.05, 0.1, 0.2, 0.5)
ROWS = 3_000_000


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.mix", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smoke test: few rows, no Java")
    parser.add_argument("--repeats", type=int, default=2, help="runs of each (2)")
    parser.add_argument("--out", type=Path, default=reports.BUILD, help="folder of the results (build/bench)")
    given = parser.parse_args(argv)
    everyone = line_up(peers=False)
    chosen = [c for c in everyone if c.shape == PACKED[64] and c.transport == "lean" and "embedded" not in c.options]
    with tempfile.TemporaryDirectory(prefix="wattlog-bench-") as temporary, shown("mix") as progress:
        folder, found = Path(temporary), []
        progress.total(len(SHARES) * len(chosen) * given.repeats)
        with broker(folder, quick=given.quick) as at:
            for share in SHARES:
                fleet, most = fleet_for(at, share), QUICK_ROWS if given.quick else ROWS
                results, _ = measure(chosen, at, fleet, folder, progress, repeats=given.repeats, most=most)
                found += [{"token_share": share, **_without_tenants(r)} for r in results]
                about = reports.about(at, asdict(fleet), repeats=given.repeats, quick=given.quick)
                reports.write(given.out, "mix", {"about": about, "results": found})


def _without_tenants(result: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in result.items() if k != "tenants"}


if __name__ == "__main__":
    main()
