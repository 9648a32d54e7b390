"""Memory of a receiver's senders, each of which has sent as much as is remembered. No broker, no HTTP.

`python -m bench.senders [--senders 64]`. Prints what tracemalloc counts: for one sender by kind of what is remembered,
and for all of them together, with what the bound (`producers.runtime.receiver.sender_memories`) leaves of it.
"""

from __future__ import annotations

import argparse
import gc
import tracemalloc
from collections.abc import Callable

from bench.harness.progress import console
from producers.runtime.batching import RequestRow
from producers.runtime.deduplication import MAX_IDENTITIES
from producers.runtime.estimated_calls import CALLS_A_PART, EstimatedCall
from producers.runtime.estimated_calls import PARTS as CALL_PARTS
from producers.runtime.receiver.sender_memories import SenderMemories, SenderMemory
from producers.runtime.series_totals import PARTS as SERIES_PARTS
from producers.runtime.series_totals import SERIES_A_PART, SeriesTotal, series_of

NOW_NS = 1_793_491_260_000_000_000
MIB = 2**20


def fill_identities(memory: SenderMemory, sender: str) -> None:
    memory.window.add(f"{sender} call {n}" for n in range(MAX_IDENTITIES))


def fill_series(memory: SenderMemory, sender: str) -> None:
    count = SERIES_PARTS * SERIES_A_PART
    totals = {series_of(sender.encode(), b"%d" % n): SeriesTotal(NOW_NS + n, NOW_NS + n, 10**9 + n, n)
              for n in range(count)}  # fmt: skip
    memory.totals.apply({series: (None, total) for series, total in totals.items()})


def fill_estimates(memory: SenderMemory, sender: str) -> None:
    for n in range(CALL_PARTS * CALLS_A_PART):
        digest = series_of(sender.encode(), b"estimate %d" % n)
        row = RequestRow(
            tenant=f"tenant-{n % 100}", model=f"model-{n % 10}", request_id=f"{sender}-{n}", t_start_ms=NOW_NS // 10**6,
            t_first_ms=NOW_NS // 10**6 + 10, t_end_ms=NOW_NS // 10**6 + n, prompt_tokens=1_000 + n, cached_tokens=0,
            completion_tokens=300 + n, session_id=f"session-{n}", trace_id=f"{digest:032x}",
        )  # fmt: skip
        call = EstimatedCall.of("east", "chat", row, "0.0123", [digest])
        memory.window.estimates.apply({digest: (None, call)})


FILLS: dict[str, Callable[[SenderMemory, str], None]] = {
    "identities of calls": fill_identities, "totals of series": fill_series, "estimated calls": fill_estimates,
}  # fmt: skip


def grown_bytes(action: Callable[[], object]) -> int:
    """Return the bytes that an action leaves in memory."""
    gc.collect()
    before = tracemalloc.get_traced_memory()[0]
    action()
    gc.collect()
    return tracemalloc.get_traced_memory()[0] - before


def fill(memories: SenderMemories, sender: str, fills: Callable[[SenderMemory, str], None]) -> None:
    memory = memories.of(sender)
    memories.keep(sender, memory)
    fills(memory, sender)
    memories.make_room()
    memories.mark_stored()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--senders", type=int, default=64)
    parser.add_argument("--quick", action="store_true", help="16 senders")
    options = parser.parse_args()
    senders = 16 if options.quick else options.senders
    tracemalloc.start()
    memories = SenderMemories()
    for kind, fills in FILLS.items():
        grown = grown_bytes(lambda fills=fills: fill(memories, "first", fills))  # type: ignore[misc]
        console.print(f"one sender, full of {kind}: {grown / MIB:.1f} MiB")
    memories_of_all = SenderMemories()

    def fill_all() -> None:
        for n in range(senders):
            for fills in FILLS.values():
                fill(memories_of_all, f"sender-{n}", fills)

    console.print(f"{senders} full senders: {grown_bytes(fill_all) / MIB:.0f} MiB")


if __name__ == "__main__":
    main()
