"""What a process sets for itself that does nothing but stream: how Python and the C library keep memory."""

from __future__ import annotations

import ctypes
import gc
import logging

log = logging.getLogger("wattlog.stream")

GC_ALLOCATIONS = 200_000
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's `mallopt`."""
KEPT_BYTES, MAPPED_ABOVE_BYTES = 128 * 2**20, 32 * 2**20
"""Memory that is freed and kept for the next step; above the second figure, glibc keeps nothing whatever one asks."""


def settle() -> None:
    """Collect garbage seldom, and keep freed memory."""
    collect_seldom()
    keep_memory()


def collect_seldom() -> None:
    """Objects are many, short-lived and hardly ever in cycles, and to look for cycles as often as Python does by itself
    costs a twentieth of the time."""
    gc.freeze()
    gc.set_threshold(GC_ALLOCATIONS, 50, 100)


def keep_memory() -> None:
    """Every step makes columns of some MiB, and lets go of them. By itself glibc gives those back to the kernel and
    asks for them again at the next step; a page that comes anew is emptied first, which is a twentieth of the time too.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return  # Another C library: macOS, musl.
    if not (mallopt(M_MMAP_THRESHOLD, MAPPED_ABOVE_BYTES) and mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)):
        log.info("the C library does not keep freed memory: mallopt refused")
