"""`python -m tests.kafka.chaos`: faults at length on a real Kafka, with a table of results and build/chaos.json.

First come the scenarios that the tests run briefly: workers killed at random, brokers killed and stopped, workers that
join, leave and pause, poison messages. Then the warehouse is away for minutes; then the soak runs. Exit status 1 unless
every ledger is the oracle's. A seed that fails is printed: `--seed N --only NAME` repeats it.
"""

from __future__ import annotations

import argparse
import os
import secrets
import subprocess
import sys
import tempfile
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from tests.kafka import jars
from tests.kafka.broker import KafkaBroker
from tests.kafka.chaos.reports import about, write
from tests.kafka.chaos.scenarios import ALL, play
from tests.kafka.workers import ROOT
from warehouse.client import connect

OUTAGE = "outage"
SOAK = "soak"
OUTAGE_TESTS = "tests/streams/test_sink_outage.py"
_COLUMNS = (
    "rounds", "kills", "ended", "rebalances", "messages", "duplicates", "dead_letters", "recover_p50_s",
    "recover_max_s", "residual_uj", "fingerprint_equal", "oracle_equal", "seconds",
)  # fmt: skip


def main() -> None:
    options = _arguments()
    console = Console(stderr=True, highlight=False)
    console.print(f"seed {options.seed}")
    report: dict[str, Any] = about() | {"seed": options.seed, "scenarios": []}
    failed = []
    for outcome in _scenarios(options, console):
        report["scenarios"].append(asdict(outcome))
        failed += [] if outcome.sound else [outcome.name]
        write("chaos.json", report)
    if report["scenarios"]:
        console.print(_table(report["scenarios"]))
    if OUTAGE in options.only:
        report[OUTAGE] = {"seconds": options.outage, "passed": _outage(options.outage)}
        failed += [] if report[OUTAGE]["passed"] else [OUTAGE]
    if SOAK in options.only:
        command = [sys.executable, "-m", "tests.kafka.soak", "--minutes", str(options.minutes), "--rate", options.rate]
        report[SOAK] = {
            "minutes": options.minutes,
            "passed": subprocess.run(command, cwd=ROOT, check=False).returncode == 0,
        }
        failed += [] if report[SOAK]["passed"] else [SOAK]
    path = write("chaos.json", report | {"failed": failed})
    console.print(f"written to {path.relative_to(ROOT)}")
    if failed:
        console.print(
            f"[red]failed:[/red] {', '.join(failed)}; again with --seed {options.seed} --only {','.join(failed)}"
        )
    sys.exit(bool(failed))


def _arguments() -> argparse.Namespace:
    every = [*ALL, OUTAGE, SOAK]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=ALL["kills"][1], help="workers killed (the rest in proportion)")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6))
    parser.add_argument("--only", type=lambda text: text.split(","), default=every, help=", ".join(every))
    parser.add_argument("--outage", type=int, default=300, help="seconds that the warehouse is away")
    parser.add_argument("--minutes", type=float, default=30.0, help="of the soak")
    parser.add_argument("--rate", default="auto", help="of the soak, rows a second")
    options = parser.parse_args()
    if unknown := set(options.only) - set(every):
        parser.error(f"--only {','.join(sorted(unknown))}: one or more of {', '.join(every)}")
    return options


def _scenarios(options: argparse.Namespace, console: Console) -> Any:
    """Outcomes, one after the other."""
    names = [name for name in ALL if name in options.only]
    if not names:
        return
    columns = (
        TextColumn("{task.fields[name]:9}"),
        BarColumn(24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    with (
        tempfile.TemporaryDirectory(prefix="wattlog-chaos-") as temporary,
        KafkaBroker(Path(temporary) / "kafka", jars.resolve()) as kafka,
        connect(f"chdb://{Path(temporary) / 'warehouse'}", database="default", readers=1),
        Progress(*columns, console=console) as progress,
    ):
        for name in names:
            rounds = options.rounds if name == "kills" else max(1, ALL[name][1] * options.rounds // ALL["kills"][1])
            task = progress.add_task("", name=name, total=rounds)

            def announce(text: str, task: Any = task, name: str = name) -> None:
                progress.update(task, description=text, advance=1)
                if not console.is_terminal:  # A log file shows no progress bar.
                    console.print(f"{datetime.now(UTC):%H:%M:%S} {name}: {text}")

            folder = Path(temporary)
            yield play(
                name, kafka, folder / "warehouse", folder / name, rounds=rounds, seed=options.seed, announce=announce
            )
            progress.update(task, completed=rounds, description="judged")


def _outage(seconds: int) -> bool:
    """The warehouse's own test of an outage, for this long."""
    env = os.environ | {"WATTLOG_OUTAGE_S": str(seconds)}
    command = [sys.executable, "-m", "pytest", "-q", OUTAGE_TESTS, "--timeout", str(seconds + 600)]
    return subprocess.run(command, cwd=ROOT, env=env, check=False).returncode == 0


def _table(scenarios: list[dict[str, Any]]) -> Table:
    """Scenarios as columns, figures as rows."""
    table = Table("", *(s["name"] for s in scenarios), title="What was done, and what the books say")
    for column in _COLUMNS:
        table.add_row(column.replace("_", " "), *(_cell(s[column]) for s in scenarios))
    return table


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "[red]NO[/red]"
    return f"{value:,}"


if __name__ == "__main__":
    main()
