"""What a long run found, as JSON under build/, with what it was found on: docs/reliability.md cites it."""

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
    """When, on which commit, on what."""
    shown = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.strip()  # fmt: skip
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"), "commit": shown, "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}", "cores": os.cpu_count(),
    }  # fmt: skip


def write(name: str, found: dict[str, Any]) -> Path:
    """Write `build/NAME`; returns its path."""
    BUILD.mkdir(exist_ok=True)
    path = BUILD / name
    path.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    return path
