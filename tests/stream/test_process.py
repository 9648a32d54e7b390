"""What a streaming process sets for itself."""

from __future__ import annotations

import subprocess
import sys


def test_a_process_that_streams_collects_seldom_and_runs_on() -> None:
    """In a process of its own: it changes the one that it is called in."""
    code = "import gc; from streams.process import settle; settle(); print(gc.get_threshold()[0])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "200000"
