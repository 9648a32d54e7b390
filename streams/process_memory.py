"""What a process sets for itself that does nothing but stream: how Python and the C library keep memory."""

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
"""Heaps of the C library: threads that take turns would each fill one of their own."""
KEPT_BYTES, MAPPED_ABOVE_BYTES = 128 * 2**20, 32 * 2**20
"""Memory that is freed and kept for the next step; above the second figure, glibc keeps nothing whatever one asks."""


def tune_memory() -> None:
    """Collect garbage seldom, and keep freed memory. To be called before threads are started: each keeps the heap that
    it began with."""
    collect_seldom()
    keep_memory()


def collect_seldom() -> None:
    """Objects are many, short-lived and hardly ever in cycles, and to look for cycles as often as Python does by itself
    costs a twentieth of the time."""
    gc.freeze()
    gc.set_threshold(GC_ALLOCATIONS, 50, 100)


def keep_memory() -> None:
    """Every step makes columns of some MiB, and lets go of them. By themselves glibc and Arrow's allocator give those
    back to the kernel and ask for them again at the next step; a page that comes anew is emptied first, which is a
    twentieth of the time, and a tenth where rows are sent.
    """
    pa.set_memory_pool(pa.system_memory_pool())
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return  # Another C library: macOS, musl.
    wanted = ((M_ARENA_MAX, ARENAS), (M_MMAP_THRESHOLD, MAPPED_ABOVE_BYTES), (M_TRIM_THRESHOLD, KEPT_BYTES))
    if 0 in [mallopt(parameter, value) for parameter, value in wanted]:
        log.info("the C library does not keep freed memory: mallopt refused")
