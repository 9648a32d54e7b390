"""The command line as a user runs it: in processes of its own, on the data of a demo."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.paths import ROOT
from tests.support.waiting import HANG_S


@dataclass(frozen=True)
class Ran:
    """A command that has ended."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Wattlog = Callable[..., Ran]


def wattlog(*args: str | Path, cwd: Path = ROOT, fault: str = "", **env: str) -> Ran:
    """`wattlog ARGS`, with only these WATTLOG_ variables set. `fault` is code that runs before: it breaks a part."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("WATTLOG_")}
    command = [sys.executable, "-c", f"{fault}\nfrom cli.main import main; main()", *map(str, args)]
    clean["PYTHONPATH"] = str(ROOT)
    process = subprocess.run(
        command, cwd=cwd, env={**clean, **env}, capture_output=True, text=True, timeout=HANG_S, check=False
    )
    return Ran(process.returncode, process.stdout, process.stderr)


@dataclass(frozen=True)
class DemoRun:
    """A demo that ran once for all tests: its JSON, and its data folder."""

    answer: dict[str, Any]
    data: Path
    ran: Ran


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> DemoRun:
    data = tmp_path_factory.mktemp("demo") / "data"
    ran = wattlog("demo", "--exit", "--json", "--data", data, "--port", "0")
    assert ran.status == 0, ran.err
    return DemoRun(ran.json, data, ran)
