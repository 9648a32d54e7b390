"""Memory settings of a process that only streams: Python's garbage collector and the C library's heap."""

from __future__ import annotations

import ctypes
import gc
import logging

import pyarrow as pa

log = logging.getLogger("wattlog.stream")

GC_ALLOCATIONS = 200_000
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
"""Parameters of glibc's `mallopt`."""
ARENAS = 2
"""Heaps of the C library: else threads that take turns would each fill a heap of their own."""
KEPT_BYTES, MAPPED_ABOVE_BYTES = 128 * 2**20, 32 * 2**20
"""Freed memory that is kept for the next step; glibc never keeps blocks above the second figure."""


def tune_memory() -> None:
    """Collect garbage rarely, and keep freed memory. Call it before threads start: each keeps its first heap."""
    collect_rarely()
    keep_memory()


def collect_rarely() -> None:
    """Raise the thresholds of the garbage collector.

    Objects are many, short-lived and hardly ever in cycles. Python's own thresholds cost a twentieth of the time.
    """
    gc.freeze()
    gc.set_threshold(GC_ALLOCATIONS, 50, 100)


def keep_memory() -> None:
    """Keep freed memory in the process.

    Every step allocates columns of some MiB and frees them. By default, glibc and Arrow's allocator return them to the
    kernel and request them again at the next step. The kernel clears each new page, which costs a twentieth of the
    time, and a tenth where rows are sent.
    """
    pa.set_memory_pool(pa.system_memory_pool())
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return  # Another C library: macOS, musl.
    parameters = ((M_ARENA_MAX, ARENAS), (M_MMAP_THRESHOLD, MAPPED_ABOVE_BYTES), (M_TRIM_THRESHOLD, KEPT_BYTES))
    if 0 in [mallopt(parameter, value) for parameter, value in parameters]:
        log.info("the C library does not keep freed memory: mallopt refused")
