"""A contestant with wrong totals is caught, and named with the difference."""

from __future__ import annotations

import pytest

from bench.harness.check import DisagreementError, check, check_alike, furthest
from bench.harness.fleet import Totals

EXPECTED = Totals(
    rows=10, readings=8, requests=2, energy_uj=10**12, prompt_tokens=5, cached_tokens=1, completion_tokens=7
)
EXACT = {"energy_uj": 10**12, "prompt_tokens": 5, "cached_tokens": 1, "completion_tokens": 7, "requests": 2}


def test_equal_totals_pass() -> None:
    check("a", EXACT, EXPECTED, exact=True)


def test_one_missing_microjoule_is_caught() -> None:
    with pytest.raises(DisagreementError, match=r"a stored .* -1 uJ"):
        check("a", {**EXACT, "energy_uj": 10**12 - 1}, EXPECTED, exact=True)


def test_floating_point_totals_may_differ_by_a_billionth() -> None:
    check("a", {**EXACT, "energy_uj": 1e12 + 900}, EXPECTED, exact=False)
    with pytest.raises(DisagreementError):
        check("a", {**EXACT, "energy_uj": 1e12 + 1_100}, EXPECTED, exact=False)


@pytest.mark.parametrize("count", ["prompt_tokens", "cached_tokens", "completion_tokens", "requests"])
def test_a_lost_token_or_request_is_caught(count: str) -> None:
    with pytest.raises(DisagreementError, match=count):
        check("a", {**EXACT, count: EXACT[count] - 1}, EXPECTED, exact=False)


@pytest.mark.parametrize("missing", list(EXACT))
def test_an_exact_contestant_states_all_its_totals(missing: str) -> None:
    with pytest.raises(DisagreementError, match="did not say"):
        check("a", {k: v for k, v in EXACT.items() if k != missing}, EXPECTED, exact=True)


def test_exact_contestants_agree_on_every_tenant() -> None:
    check_alike({"a": {"t": 5, "u": 6}, "b": {"t": 5, "u": 6}})
    with pytest.raises(DisagreementError, match="a and b disagree on u"):
        check_alike({"a": {"t": 5, "u": 6}, "b": {"t": 6, "u": 5}, "c": {"t": 5, "u": 6}} | {"b": {"t": 5, "u": 7}})


def test_a_missing_tenant_is_a_disagreement() -> None:
    with pytest.raises(DisagreementError, match="u"):
        check_alike({"a": {"t": 5, "u": 6}, "b": {"t": 5}})


def test_the_error_of_an_approximate_design_is_that_of_its_worst_tenant() -> None:
    assert furthest({"t": 100, "u": 200}, {"t": 101.0, "u": 190.0}) == pytest.approx(0.05)
