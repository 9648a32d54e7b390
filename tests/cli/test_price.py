"""`wattlog price` stores a price, lists it, and the next bill uses it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import wattlog


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger of one GPU hour at 1 kW."""
    folder = tmp_path_factory.mktemp("priced")
    (folder / "power.csv").write_text(
        "time,gpu,energy_mj\n2025-03-01T10:00:00Z,g0,0\n2025-03-01T11:00:00Z,g0,3600000000\n"
    )
    (folder / "tokens.csv").write_text(
        "start,end,tenant,model,prompt_tokens,completion_tokens\n"
        "2025-03-01T10:00:00Z,2025-03-01T11:00:00Z,acme,m,1000,1000\n"
    )
    ran = wattlog(
        "replay", "csv", "--tokens", folder / "tokens.csv", "--power", folder / "power.csv", "--data", folder / "d"
    )
    assert ran.status == 0, ran.err
    return folder / "d"


def bill(data: Path) -> tuple[str | None, str | None]:
    answer = wattlog("chargeback", "--json", "--data", data).json
    row = next(r for r in answer["rows"] if r["tenant"] == "acme")
    return row["cost"], row["gco2"]


@pytest.mark.slow
def test_the_cost_is_empty_without_prices_and_exact_with_them(data: Path) -> None:
    assert bill(data) == (None, None)
    for words in (("energy", "csv", "0.21"), ("pue", "csv", "1.3"), ("carbon", "*", "250")):
        assert wattlog("price", *words, "--data", data).status == 0
    assert bill(data) == ("0.273000", "325.000000")


def test_an_overlap_is_refused_with_the_day_that_resolves_it(data: Path) -> None:
    wattlog("price", "energy", "other", "0.10", "--data", data)
    ran = wattlog("price", "energy", "other", "0.20", "--from", "2025-01-01", "--data", data)
    assert ran.status == 2
    assert "2025-01-01" in ran.err


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("energie", "csv", "1"), "kind"),
        (("energy", "csv", "cheap"), "value"),
        (("energy", "csv"), "KIND CLUSTER VALUE"),
        (("pue", "csv", "0.9"), "value"),
        (("energy", "csv", "1", "--from", "yesterday"), "from"),
    ],
)
def test_an_invalid_price_is_refused(words: tuple[str, ...], reason: str, data: Path) -> None:
    ran = wattlog("price", *words, "--data", data)
    assert ran.status == 2
    assert reason in ran.err


@pytest.mark.slow
def test_a_price_is_removed_by_kind_cluster_and_start(data: Path) -> None:
    def listed() -> int:
        return len([p for p in wattlog("price", "--data", data, "--json").json if p["cluster"] == "mistaken"])

    wattlog("price", "pue", "mistaken", "12", "--from", "2026-01-01", "--data", data)
    assert listed() == 1
    refused = wattlog("price", "pue", "mistaken", "--remove", "--data", data)
    assert (refused.status, listed()) == (2, 1)
    assert "no price of this kind and cluster starts then" in refused.err
    assert wattlog("price", "pue", "mistaken", "--remove", "--from", "2026-01-01", "--data", data).status == 0
    assert listed() == 0
