"""Most tokens per second that a server of some hardware can produce, so that no row is beyond belief. Pure.

The figures are no measurements: each is several times what has been published of its GPUs, with cached prompts, so that
a right count never meets it. They bound what a wrong one can do.
"""

from __future__ import annotations

from collections.abc import Mapping

from contracts.errors import BadInput

PER_GPU: Mapping[str, int] = {
    "GB300": 400_000, "GB200": 400_000, "B300": 400_000, "B200": 400_000, "MI355X": 400_000, "MI350X": 400_000,
    "H200": 200_000, "H100": 200_000, "GH200": 200_000, "MI325X": 200_000, "MI300X": 200_000,
    "A100": 100_000, "H20": 100_000, "L40S": 100_000, "RTX 6000": 100_000,
    "A40": 50_000, "A30": 50_000, "L40": 50_000, "A10": 50_000, "L4": 50_000, "V100": 50_000, "T4": 50_000,
}  # fmt: skip
"""Prompt and completion tokens per second of one GPU, by a part of its product name; the longest part counts."""
UNKNOWN_GPU = 200_000
DEFAULT_GPUS = 8
DEFAULT_LIMIT = UNKNOWN_GPU * DEFAULT_GPUS


def limit_of(gpu: str, gpus: int, own: Mapping[str, int]) -> int:
    """Return the limit of a server with `gpus` GPUs of a type. `own` are configured limits by type, before PER_GPU.

    Raises BadInput for a type that neither names.
    """
    if not gpu:
        return own.get("", UNKNOWN_GPU) * gpus
    for table in (own, PER_GPU):
        names = [name for name in table if name and name.lower() in gpu.lower()]
        if names:
            return table[max(names, key=len)] * gpus
    known = ", ".join(sorted({*own, *PER_GPU} - {""}))
    raise BadInput("gpu", gpu, f"its tokens per second are not known: give them in `max_tokens_per_s`, or use {known}")


def above_limit(tokens: int, length_ms: int, limit: int) -> bool:
    """Return True if so many tokens, or requests, are more than the time can hold; at least a second counts."""
    return tokens * 1000 > limit * max(length_ms, 1000)
