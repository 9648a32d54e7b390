"""Idle floors and work weights: the closest match that is valid at an event's time."""

from __future__ import annotations

import pytest

from streams.core.attribution.policy import ANY, DEFAULT_WEIGHTS, FloorVersion, Policy, WeightsVersion

FLOORS = (
    FloorVersion(ANY, 0, 1_000, 10, 1),
    FloorVersion("H100", 100, 200, 70, 2),
    FloorVersion("H100", 200, 300, 80, 3),
    FloorVersion("H100", 250, 300, 90, 4),
    FloorVersion("wall less GPUs", 100, 200, 300, 5),
)


@pytest.mark.parametrize(
    ("hardware", "t_ms", "expected"),
    [
        ("A100", 0, (10, 1)),  # any
        ("H100", 99, (10, 1)),  # its own is not valid yet
        ("H100", 100, (70, 2)),  # from is inside
        ("H100", 199, (70, 2)),
        ("H100", 200, (80, 3)),  # to is outside
        ("H100", 250, (90, 4)),  # of two that are valid, the greater version
        ("H100", 300, (10, 1)),
        ("H100", 1_000, (0, 0)),  # unknown: no idle energy, version 0
        ("host", 0, (0, 0)),  # a floor of any hardware is a GPU's
        ("wall less GPUs", 0, (0, 0)),
        ("wall less GPUs", 100, (300, 5)),
    ],
)
def test_the_closest_valid_floor_applies(hardware, t_ms, expected):
    assert Policy(FLOORS).floor(hardware, t_ms) == expected


def weights(model: str, hardware: str, prompt_milli: int, version: int, valid_to_ms: int = 1_000) -> WeightsVersion:
    return WeightsVersion(
        model=model,
        hardware=hardware,
        valid_from_ms=0,
        valid_to_ms=valid_to_ms,
        prompt_milli=prompt_milli,
        cached_milli=1,
        completion_milli=2,
        version=version,
    )


WEIGHTS = (
    weights(ANY, ANY, 1, 1),
    weights(ANY, "H100", 2, 2),
    weights("m", ANY, 3, 3),
    weights("m", "H100", 4, 4),
    weights("m", "H100", 5, 5, valid_to_ms=100),
)


@pytest.mark.parametrize(
    ("model", "hardware", "t_ms", "prompt_milli", "version"),
    [
        ("x", "A100", 500, 1, 1),
        ("x", "H100", 500, 2, 2),
        ("m", "A100", 500, 3, 3),  # the model is closer than the hardware
        ("m", "H100", 500, 4, 4),
        ("m", "H100", 50, 5, 5),  # of two, the greater version
        ("m", "", 500, 3, 3),  # tokens without measured energy
    ],
)
def test_the_closest_valid_weight_applies(model, hardware, t_ms, prompt_milli, version):
    assert Policy(weights=WEIGHTS).weight(model, hardware, t_ms) == (prompt_milli, 1, 2, version)


def test_the_default_applies_where_nothing_is_valid():
    assert Policy(weights=WEIGHTS).weight("m", "H100", 5_000) == (1_000, 0, 3_000, DEFAULT_WEIGHTS.version)
    assert Policy(weights=()).weight("m", "H100", 0) == (1_000, 0, 3_000, 1)


def test_the_cache_does_not_grow_with_the_number_of_windows() -> None:
    """A day has 8,640 windows of 10 s; the tables change once in months."""
    calls = []

    class Counted(Policy):
        def floor(self, hardware: str, t_ms: int) -> tuple[int, int]:
            calls.append(t_ms)
            return super().floor(hardware, t_ms)

    policy = Counted(floors=(FloorVersion("h", 1_000, 50_000, 7, 1), FloorVersion("h", 20_000, 90_000, 9, 2)))
    floors = [policy.floor("h", t_ms) for t_ms in range(0, 100_000, 10)]
    assert floors == [super(Counted, policy).floor("h", t_ms) for t_ms in range(0, 100_000, 10)]
    assert len(calls) == 5  # Before, the first, the second beside it, alone, after.
