"""A contestant whose totals differ is caught, and named with the difference."""

from __future__ import annotations

import pytest

from bench.harness.check import DisagreementError, check, check_alike, furthest
from bench.harness.fleet import Totals

WANTED = Totals(
    rows=10, readings=8, requests=2, energy_uj=10**12, prompt_tokens=5, cached_tokens=1, completion_tokens=7
)
EXACT = {"energy_uj": 10**12, "prompt_tokens": 5, "cached_tokens": 1, "completion_tokens": 7, "requests": 2}


def test_what_was_sent_is_believed() -> None:
    check("a", EXACT, WANTED, exact=True)


def test_one_microjoule_too_few_is_caught() -> None:
    with pytest.raises(DisagreementError, match=r"a stored .* -1 uJ"):
        check("a", {**EXACT, "energy_uj": 10**12 - 1}, WANTED, exact=True)


def test_floating_point_may_be_off_by_a_billionth_and_no_more() -> None:
    check("a", {**EXACT, "energy_uj": 1e12 + 900}, WANTED, exact=False)
    with pytest.raises(DisagreementError):
        check("a", {**EXACT, "energy_uj": 1e12 + 1_100}, WANTED, exact=False)


@pytest.mark.parametrize("count", ["prompt_tokens", "cached_tokens", "completion_tokens", "requests"])
def test_a_lost_token_or_request_is_caught(count: str) -> None:
    with pytest.raises(DisagreementError, match=count):
        check("a", {**EXACT, count: EXACT[count] - 1}, WANTED, exact=False)


@pytest.mark.parametrize("missing", list(EXACT))
def test_an_exact_contestant_says_all_of_it(missing: str) -> None:
    with pytest.raises(DisagreementError, match="did not say"):
        check("a", {k: v for k, v in EXACT.items() if k != missing}, WANTED, exact=True)


def test_exact_contestants_agree_on_every_tenant() -> None:
    check_alike({"a": {"t": 5, "u": 6}, "b": {"t": 5, "u": 6}})
    with pytest.raises(DisagreementError, match="a and b disagree on u"):
        check_alike({"a": {"t": 5, "u": 6}, "b": {"t": 6, "u": 5}, "c": {"t": 5, "u": 6}} | {"b": {"t": 5, "u": 7}})


def test_a_tenant_that_somebody_lacks_is_a_disagreement() -> None:
    with pytest.raises(DisagreementError, match="u"):
        check_alike({"a": {"t": 5, "u": 6}, "b": {"t": 5}})


def test_an_approximate_design_is_as_far_off_as_its_furthest_tenant() -> None:
    assert furthest({"t": 100, "u": 200}, {"t": 101.0, "u": 190.0}) == pytest.approx(0.05)
