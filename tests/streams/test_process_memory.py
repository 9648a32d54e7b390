"""Memory settings of a streaming process."""

from __future__ import annotations

import subprocess
import sys


def test_a_streaming_process_collects_garbage_rarely() -> None:
    """In a process of its own: it changes the one that it is called in."""
    code = "import gc; from streams.process_memory import tune_memory; tune_memory(); print(gc.get_threshold()[0])"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert process.stdout.strip() == "200000"


def test_freed_arrow_memory_goes_to_the_c_library_which_keeps_it() -> None:
    code = (
        "from pyarrow import default_memory_pool as pool; from streams.process_memory import tune_memory; tune_memory()"
    )
    code += "; print(pool().backend_name)"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert process.stdout.strip() == "system"
