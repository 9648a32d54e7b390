"""`python -m bench [PART ...] [OPTIONS]`: parts are the programs in bench/; all of them if nothing is said, those of
the stream with options but no part. Each gets the options (`--quick`, `--repeats 3` ...; `python -m bench.PART --help`
lists its own). The report comes last.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from bench.harness.progress import console

HERE = Path(__file__).parent
LAST = "report"
STREAM = ["speed", "mix", "latency", "cardinality", LAST]


def parts() -> list[str]:
    """The measurements here, by name; the report last."""
    names = sorted(path.stem for path in HERE.glob("[a-z]*.py") if path.stem != LAST)
    return [*names, LAST]


def chosen(arguments: list[str]) -> tuple[list[str], list[str]]:
    """(parts, options for each). Words before the first option name parts. Raises SystemExit for an unknown one."""
    named = arguments[: next((i for i, a in enumerate(arguments) if a.startswith("-")), len(arguments))]
    unknown = [name for name in named if name not in parts()]
    if unknown:
        raise SystemExit(f"bench: no part {unknown[0]!r}; there are {', '.join(parts())}")
    options = arguments[len(named) :]
    return named or (STREAM if options else parts()), options


def for_report(options: list[str]) -> list[str]:
    """Return those of the measurements' options that the report accepts too."""
    return options[options.index("--out") :][:2] if "--out" in options else []


def main() -> None:
    arguments = sys.argv[1:]
    if arguments in (["--help"], ["-h"]):
        print(__doc__, f"\nParts: {', '.join(parts())}")
        return
    named, options = chosen(arguments)
    for name in named:
        part_options = for_report(options) if name == LAST and len(named) > 1 else options
        status = subprocess.run([sys.executable, "-m", f"bench.{name}", *part_options], check=False).returncode
        if status:
            console.print(f"bench.{name} ended with status {status}")
            raise SystemExit(status)


if __name__ == "__main__":
    main()
