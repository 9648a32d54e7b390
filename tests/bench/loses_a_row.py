"""A contestant that drops one request, for the test that detects the loss."""

from __future__ import annotations

from typing import Any

from bench.harness.meter import Job, Meter


def main() -> None:
    job: Any = Job.read()
    meter = Meter(job)
    meter.start()
    meter.stop()
    meter.report({"energy_uj": job.energy_uj, "requests": job.requests - 1, "rows": job.rows - 1})


if __name__ == "__main__":
    main()
