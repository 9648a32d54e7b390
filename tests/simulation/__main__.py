"""Run the simulator: `python -m tests.simulation SEED [--trace]`, or `... --seeds A-B [--jobs N]`.

Ends with status 1 if a promise was broken; each such seed is printed with the command that replays it alone.
"""

from __future__ import annotations

import argparse
import sys
import time

from tests.simulation import many
from tests.simulation.run import simulate

MAX_PRINTED = 20
"""Number of broken seeds that are printed before a long run gives up."""


def main(arguments: list[str] | None = None) -> int:
    """Return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("seed", type=int, nargs="?", help="one seed to run")
    parser.add_argument("--trace", action="store_true", help="show what happened, step by step")
    parser.add_argument("--seeds", default="0-19999", metavar="A-B", help="run these seeds (default: 0-19999)")
    parser.add_argument("--jobs", type=int, default=None, metavar="N", help="processes (default: one a core)")
    options = parser.parse_args(arguments)
    if options.seed is not None:
        return one(options.seed, trace=options.trace)
    first, _, last = options.seeds.partition("-")
    return several(int(first), int(last or first), options.jobs)


def one(seed: int, *, trace: bool) -> int:
    result = simulate(seed, trace=trace)
    for line in result.lines:
        print(line)
    if result.broken:
        print(f"seed {seed} broke a promise: {result.broken}\n{many.replay(seed)}")
        return 1
    print(f"seed {seed} is well: {result.steps} steps, {result.virtual_ms / 1000:.0f} s of virtual time")
    return 0


def several(first: int, last: int, jobs: int | None) -> int:
    total, began_s, seeds_total = many.Tally(), time.monotonic(), last - first + 1
    with many.pool(jobs) as workers:
        for tally in many.tallies(workers, first, last):
            total.add(tally)
            for seed, broken in tally.broken.items():
                print(f"\nseed {seed} broke a promise: {broken}\n{many.replay(seed)}", flush=True)
            rate = total.seeds / (time.monotonic() - began_s)
            print(
                f"\r{total.seeds} of {seeds_total} seeds, {len(total.broken)} broken, {rate:.0f} a second",
                end="", file=sys.stderr, flush=True,
            )  # fmt: skip
            if len(total.broken) >= MAX_PRINTED:
                workers.shutdown(cancel_futures=True)
                break
    print(file=sys.stderr)
    per_seed = {kind: round(count / total.seeds, 2) for kind, count in sorted(total.met.items())}
    print(f"{total.seeds} seeds, {total.virtual_s / 3600:.1f} h of virtual time, {total.cpu_s:.0f} s of CPU time")
    print("met, a seed: " + ", ".join(f"{kind} {count}" for kind, count in per_seed.items()))
    print(f"{len(total.broken)} seeds broke a promise" if total.broken else "every promise was kept")
    return 1 if total.broken else 0


if __name__ == "__main__":
    sys.exit(main())
