"""ClickHouse in a process of its own, as every fleet has it: chdb behind the HTTP endpoint that the tests use.

`python -m bench.harness.clickhouse FOLDER` says its address and answers until its input ends. What it costs is not the
worker's, and so counted apart (`meter.cpu_of`); the endpoint's own Python is in that figure.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import chdb

from bench.harness.broker import ROOT
from tests.support.clickhouse_http import serve

DATABASE = "bench"


class Server(NamedTuple):
    """Address and process id of the ClickHouse endpoint."""

    dsn: str
    pid: int


@contextmanager
def server(folder: Path) -> Iterator[Server]:
    """A server over a warehouse in `folder`. Raises RuntimeError when it does not come up."""
    command = [sys.executable, "-m", "bench.harness.clickhouse", str(folder)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin and process.stdout
        try:
            address = process.stdout.readline().strip()
            if not address:
                raise RuntimeError(f"the ClickHouse process ended with status {process.wait()}")
            yield Server(f"{address}/{DATABASE}", process.pid)
        finally:
            process.stdin.close()


def main() -> None:
    path = Path(sys.argv[1])
    connection = chdb.connect(str(path))  # Held open, so that the engine is up before anybody's clock runs.
    connection.query(f"CREATE DATABASE IF NOT EXISTS {DATABASE}")
    with serve(path) as address:
        print(address, flush=True)
        sys.stdin.read()
    connection.close()


if __name__ == "__main__":
    main()
