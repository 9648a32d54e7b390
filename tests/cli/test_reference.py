"""The commands of reference data as a user runs them: what is stored, what is asked, and what the next bill says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Ran, wattlog


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


def prices(data: Path, *words: str) -> Ran:
    return wattlog("prices", *words, "--data", data)


@pytest.mark.slow
def test_prices_make_the_next_bill_exact_and_a_change_of_the_past_needs_consent(data: Path) -> None:
    assert bill(data) == (None, None)
    for words in (("energy", "csv", "0.21"), ("pue", "csv", "1.3"), ("carbon", "*", "250")):
        ran = prices(data, "set", *words, "--from", "always")
        assert ran.status == 0, ran.err
    assert "prices for the first time 1 hour, 1.000 kWh (2025-03) of csv: carbon" in ran.err
    assert bill(data) == ("0.273000", "325.000000")
    refused = prices(data, "set", "energy", "csv", "0.31", "--from", "2025-03-01")
    assert refused.status == 2
    assert "re-prices 1 hour, 1.000 kWh (2025-03) of csv: energy" in refused.err
    assert bill(data)[0] == "0.273000"
    assert prices(data, "set", "energy", "csv", "-0.1", "--from", "2025-03-01", "--yes").status == 0
    assert bill(data)[0] == "-0.130000"


@pytest.mark.slow
def test_a_dry_run_stores_nothing_and_an_import_is_in_the_audit_log(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "tenants.csv"
    file.write_text("tenant,team,valid_from\nacme,search,2031-01-01\n")
    words = ("tenants", "import", file, "--data", data)
    assert "nothing is stored" in wattlog(*words, "--dry-run").out
    assert wattlog("tenants", "list", "--json", "--data", data).json == []
    assert wattlog(*words, "--json").json["added"] == 1
    assert wattlog(*words, "--json").json["unchanged"] == 1
    entries = [json.loads(line) for line in (data / "audit.jsonl").read_text().splitlines()]
    imports = [(e["outcome"], e["subject"], e["added"], len(e["sha256"])) for e in entries if "import" in e["action"]]
    assert imports == [("begun", str(file), 1, 64), ("done", str(file), 1, 64)]


def test_wrong_lines_are_named_one_by_one(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "prices.csv"
    file.write_text("kind,cluster,value\nenergy,csv,cheap\nenergy,cvs,0.1\n")
    ran = prices(data, "import", str(file))
    assert ran.status == 2
    assert "line 2, value: 'cheap'" in ran.err
    assert "line 3, cluster: 'cvs': did you mean csv?" in ran.err
    assert "2 faults in 2 rows, nothing was stored" in ran.err


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("energie", "csv", "1"), "KIND"),
        (("energy", "csv", "cheap"), "VALUE"),
        (("pue", "csv", "0.9"), "VALUE"),
        (("energy", "csv", "1", "--from", "yesterday"), "--from"),
        (("energy", "csv", "1", "--currency", "euro"), "--currency"),
        (("energy", "csv", "1", "--tz", "Berlin"), "Europe/Berlin"),
    ],
)
def test_an_invalid_price_is_refused_by_the_name_on_the_command_line(
    words: tuple[str, ...], reason: str, data: Path
) -> None:
    ran = prices(data, "set", *words)
    assert ran.status == 2
    assert reason in ran.err


@pytest.mark.slow
def test_the_former_name_lists_sets_and_removes(data: Path) -> None:
    def starts() -> list[str]:
        return [p["valid_from"] for p in wattlog("price", "--data", data, "--json").json if p["kind"] == "pue"]

    before = starts()
    assert wattlog("price", "pue", "csv", "1.9", "--from", "2031-01-01", "--data", data).status == 0
    assert len(starts()) == len(before) + 1
    assert wattlog("price", "pue", "csv", "--remove", "--from", "2031-01-01", "--data", data, "--yes").status == 0
    assert starts() == before


A44 = """<Publication_MarketDocument><type>A44</type><TimeSeries><in_Domain.mRID>Z</in_Domain.mRID>
<out_Domain.mRID>Z</out_Domain.mRID><currency_Unit.name>EUR</currency_Unit.name>
<price_Measure_Unit.name>MWH</price_Measure_Unit.name><curveType>A03</curveType><Period><timeInterval>
<start>2031-01-01T00:00Z</start><end>2031-01-01T01:00Z</end></timeInterval><resolution>PT15M</resolution>
<Point><position>1</position><price.amount>83.10</price.amount></Point></Period></TimeSeries>
</Publication_MarketDocument>"""


@pytest.mark.slow
def test_prices_of_entsoe_are_stored_per_kwh_and_prices_per_mwh_in_a_plain_file_need_consent(
    data: Path, tmp_path: Path
) -> None:
    file = tmp_path / "a44.xml"
    file.write_text(A44)
    assert "--cluster" in prices(data, "import", str(file)).err
    words = ("import", str(file), "--cluster", "csv", "--currency", "EUR")
    ran = prices(data, *words)
    assert ran.status == 0, ran.err
    assert "83.1 EUR/MWh is stored as 0.0831 EUR/kWh" in ran.err
    assert prices(data, *words).out.startswith("prices: 0 added, 0 changed, 4 unchanged")
    plain = tmp_path / "prices.csv"
    plain.write_text("kind,cluster,value,valid_from,valid_to,currency\nenergy,csv,83.1,2032-01-01,2032-01-02,EUR\n")
    assert "such as 83.1" in prices(data, "import", str(plain), "--dry-run").err
    assert prices(data, "import", str(plain)).status == 2
    assert "columns" in prices(data, "import", str(plain), "--cluster", "csv").err
