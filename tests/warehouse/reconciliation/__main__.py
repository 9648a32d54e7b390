"""Figures of reconciliation: `python -m tests.warehouse.reconciliation [--seeds 20] [--first-seed 0] [--days 30]`.

For each kind of fault, in how many seeds it is named with its kind and source within a day; and the findings of clean
days.
"""

from __future__ import annotations

import argparse

from tests.warehouse.reconciliation.faults import FAULTS
from tests.warehouse.reconciliation.trial import CLEAN_DAYS, false_alarms, findings_of, named
from warehouse.reconciliation.words import say


def main() -> None:
    """Print one line for each fault, and the false alarms."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--days", type=int, default=CLEAN_DAYS, help="clean days of each seed; 0: faults alone")
    parser.add_argument("--fault", default="", help="only faults whose name has this text; -: none")
    arguments = parser.parse_args()
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    for name in FAULTS:
        if arguments.fault not in name:
            continue
        good = 0
        for seed in seeds:
            findings = findings_of(name, seed)
            good += named(name, findings)
            if not named(name, findings):
                print(f"  seed {seed}: {[say(finding) for finding in findings][:3]}", flush=True)
        print(f"{good} of {arguments.seeds}  {name}", flush=True)
    alarms = 0
    for seed in seeds if arguments.days else ():
        for now_h, finding in false_alarms(seed, arguments.days):
            alarms += 1
            print(f"  seed {seed}, hour {now_h}: {say(finding)}", flush=True)
    print(f"{alarms} findings in {arguments.seeds} x {arguments.days} clean days", flush=True)


if __name__ == "__main__":
    main()
