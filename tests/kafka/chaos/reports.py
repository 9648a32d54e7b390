"""Results of a long run as JSON under build/, with the machine and commit: docs/reliability.md cites them."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.kafka.workers import ROOT

BUILD = ROOT / "build"


def about() -> dict[str, Any]:
    """Time, commit and machine of the run."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.strip()  # fmt: skip
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"), "commit": commit, "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}", "cores": os.cpu_count(),
    }  # fmt: skip


def write(name: str, figures: dict[str, Any]) -> Path:
    """Write `build/NAME` and return its path."""
    BUILD.mkdir(exist_ok=True)
    path = BUILD / name
    path.write_text(json.dumps(figures, indent=1) + "\n", "utf-8")
    return path
