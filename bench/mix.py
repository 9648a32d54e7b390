"""Cost of a record by the share of requests. A request costs more than a reading: it has names, it runs through
windows, and it is stored individually unless the setting `requests` is `none`.

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
from bench.harness.progress import show_progress
from bench.speed import QUICK_ROWS, fleet_for, measure

SHARES = (0.01, 0.05, 0.1, 0.2, 0.5)
ROWS = 3_000_000


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.mix", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smoke test: few rows, no Java")
    parser.add_argument("--repeats", type=int, default=2, help="runs of each (2)")
    parser.add_argument("--out", type=Path, default=reports.BUILD, help="folder of the results (build/bench)")
    options = parser.parse_args(argv)
    everyone = line_up(peers=False)
    chosen = [c for c in everyone if c.shape == PACKED[64] and c.transport == "lean" and "embedded" not in c.options]
    with tempfile.TemporaryDirectory(prefix="wattlog-bench-") as temporary, show_progress("mix") as progress:
        folder, rows = Path(temporary), []
        progress.total(len(SHARES) * len(chosen) * options.repeats)
        with broker(folder, quick=options.quick) as at:
            for share in SHARES:
                fleet, max_rows = fleet_for(at, share), QUICK_ROWS if options.quick else ROWS
                results, _ = measure(chosen, at, fleet, folder, progress, repeats=options.repeats, max_rows=max_rows)
                rows += [{"token_share": share, **_without_tenants(r)} for r in results]
                about = reports.about(at, asdict(fleet), repeats=options.repeats, quick=options.quick)
                reports.write(options.out, "mix", {"about": about, "results": rows})


def _without_tenants(result: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in result.items() if k != "tenants"}


if __name__ == "__main__":
    main()
