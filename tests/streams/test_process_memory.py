"""What a streaming process sets for itself."""

from __future__ import annotations

import subprocess
import sys


def test_a_process_that_streams_collects_seldom_and_runs_on() -> None:
    """In a process of its own: it changes the one that it is called in."""
    code = "import gc; from streams.process_memory import tune_memory; tune_memory(); print(gc.get_threshold()[0])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "200000"


def test_what_it_frees_of_arrows_goes_to_the_c_library_which_keeps_it() -> None:
    code = (
        "from pyarrow import default_memory_pool as pool; from streams.process_memory import tune_memory; tune_memory()"
    )
    code += "; print(pool().backend_name)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "system"
