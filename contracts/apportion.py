"""Apportion a total by weights, in exact integers: the largest remainder method. The parts sum to the total."""

from __future__ import annotations

from collections.abc import Sequence


def apportion(total: int, weights: Sequence[int]) -> list[int]:
    """Apportion a total in proportion to weights by largest remainder. The parts sum to the total.

    Of equal remainders the first part is rounded up.
    """
    weight_sum = sum(weights)
    parts = [total * weight // weight_sum for weight in weights]
    by_remainder = sorted(range(len(weights)), key=lambda i: -(total * weights[i] % weight_sum))
    for i in by_remainder[: total - sum(parts)]:
        parts[i] += 1
    return parts
