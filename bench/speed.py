"""Records turned into ledger rows per worker CPU second: one broker, one input, all designs in turn.

`python -m bench.speed [--quick] [--repeats N] [--only TEXT] [--no-peers]`. Writes build/bench/speed.json.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from bench.harness import children, reports, targets
from bench.harness.backlog import Shape, lay_down
from bench.harness.broker import MOCK_BYTES, MOCK_MESSAGES, MOCK_PARTITIONS, Broker, broker
from bench.harness.check import check_alike, furthest
from bench.harness.environments import PeerMissingError, python_of
from bench.harness.fleet import Fleet
from bench.harness.line_up import Contestant, line_up
from bench.harness.progress import Progress, show_progress

QUICK_ROWS = 60_000
_BYTES_PER_ROW = {"packed": 20, "json": 20, "flat": 30}
"""On the broker, compressed; no less than what was seen, for the in-process broker's bound."""

Phase = tuple[Shape, int]


def phases(contestants: list[Contestant], *, max_rows: int | None = None) -> dict[Phase, list[Contestant]]:
    """Contestants by the backlog that they drain; `most` rows of each."""
    by_phase: dict[Phase, list[Contestant]] = {}
    for c in contestants:
        by_phase.setdefault((c.shape, min(c.rows, max_rows) if max_rows else c.rows), []).append(c)
    return by_phase


def measure(
    contestants: list[Contestant],
    at: Broker,
    fleet: Fleet,
    folder: Path,
    progress: Progress,
    *,
    repeats: int,
    max_rows: int | None = None,
    save: Callable[[list[dict[str, Any]], dict[str, Any]], None] = lambda *_: None,
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """All runs of all contestants: repeats go round, so that whatever drifts on the machine meets everyone alike.
    And a profile of our worker for each shape in which it misses a target.

    `save` gets the results after each backlog.

    Raises `check.DisagreementError` when totals differ, `children.ContestantError` when one ends without a result.
    """
    results: list[dict[str, Any]] = []
    profiles: dict[str, Any] = {}
    for (shape, rows), here in phases(contestants, max_rows=max_rows).items():
        progress.say(f"{shape.name}: putting {rows:,} rows on the broker")
        backlog = lay_down(at, fleet, shape, rows if at.real else _fits(fleet, shape, rows))
        runs: dict[str, list[dict[str, Any]]] = {c.name: [] for c in here}
        for again in range(repeats):
            for c in (c for c in here if again < c.most_runs):
                progress.say(f"{shape.name}: {c.name}, {again + 1} of {repeats}")
                runs[c.name].append(children.run(c, backlog, at.bootstrap, folder))
                progress.step()
        check_alike(
            {f"{c.name}, run {i}": r["totals"]["tenants"] for c in here if c.exact for i, r in enumerate(runs[c.name])}
        )
        results += [reports.summary(c, backlog, runs[c.name]) for c in here]
        ours = next((c for c in here if c.kind == "ours"), None)
        if (
            ours
            and max_rows is None
            and any(v.shape == shape.name and v.met is False for v in targets.of_speed(results))
        ):
            progress.say(f"{shape.name}: a target is missed; profiling {ours.name}")
            profiles[shape.name] = children.run(ours, backlog, at.bootstrap, folder, profile=True)["profile"]
        _note_deviations(results)
        save(results, profiles)
    return results, profiles


def fleet_for(at: Broker, token_share: float) -> Fleet:
    """The input's fleet: 16 workloads of 32 GPUs on each of two partitions; smaller on the in-process broker."""
    fleet = Fleet(reports.base_ms(), token_share=token_share)
    return fleet if at.real else replace(fleet, partitions=MOCK_PARTITIONS, workloads=4)


def _fits(fleet: Fleet, shape: Shape, rows: int) -> int:
    """Return the number of rows that the in-process broker can keep."""
    per_partition = min(MOCK_BYTES // _BYTES_PER_ROW[shape.encoding], MOCK_MESSAGES * shape.rows)
    return min(rows, fleet.partitions * per_partition - fleet.rows_per_block)


def _note_deviations(results: list[dict[str, Any]]) -> None:
    """Note how far a peer's tenants are from the exact ledger of the same rows, if an exact design drained as many."""
    exact = {r["rows"]: r["tenants"] for r in results if r["kind"] == "ours"}
    for r in results:
        if r["kind"] in ("peer", "by hand") and r["rows"] in exact and r["tenants"]:
            r["furthest_tenant_ratio"] = furthest(exact[r["rows"]], r["tenants"])


def installable(contestants: list[Contestant], progress: Progress) -> tuple[list[Contestant], dict[str, str]]:
    """Those whose environments are there or can be made, and why the others are not."""
    missing: dict[str, str] = {}
    for name in sorted({c.environment for c in contestants if c.environment}):
        progress.say(f"the environment of {name}")
        try:
            python_of(name)
        except PeerMissingError as error:
            missing[name] = str(error)
    return [c for c in contestants if c.environment not in missing], missing


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.speed", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smoke test: few rows, one repeat, no peers, no Java")
    parser.add_argument(
        "--repeats",
        type=int,
        default=None,
        help="runs of each contestant, at most (5; fewer where no target hangs on it)",
    )
    parser.add_argument("--rows", type=int, default=None, help="at most so many rows a contestant (its own number)")
    parser.add_argument("--only", default="", help="contestants whose name or shape holds this text")
    parser.add_argument("--no-peers", action="store_true", help="ours, the ceiling and its parts")
    parser.add_argument("--token-share", type=float, default=0.2, help="requests among all rows (0.2)")
    parser.add_argument("--out", type=Path, default=reports.BUILD, help="folder of the results (build/bench)")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    options = arguments(argv)
    repeats = options.repeats or (1 if options.quick else 5)
    everyone = line_up(peers=not (options.no_peers or options.quick))
    chosen = [c for c in everyone if options.only in f"{c.name} {c.shape.name}"]
    with tempfile.TemporaryDirectory(prefix="wattlog-bench-") as temporary, show_progress("speed") as progress:
        folder = Path(temporary)
        chosen, missing = installable(chosen, progress)
        progress.total(sum(min(repeats, c.most_runs) for c in chosen))
        with broker(folder, quick=options.quick) as at:
            fleet = fleet_for(at, options.token_share)
            max_rows = options.rows or (QUICK_ROWS if options.quick else None)
            about = reports.about(at, asdict(fleet), repeats=repeats, missing=missing, quick=options.quick)

            def save(results: list[dict[str, Any]], profiles: dict[str, Any]) -> None:
                result_set = {"about": about, "results": results, "profiles": profiles}
                reports.write(options.out, "speed", result_set)

            measure(chosen, at, fleet, folder, progress, repeats=repeats, max_rows=max_rows, save=save)


if __name__ == "__main__":
    main()
