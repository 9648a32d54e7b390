"""`wattlog doctor` over `[produce.boundary]`: readings that are none, and hints that help."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from contracts.errors import Unavailable
from contracts.settings import Settings
from producers.api import NotHere
from producers.boundary.plugin import BoundaryConfig, check
from tests.producers.boundary.stand_ins import powercap
from tests.producers.frame import environment
from tests.support.http_server import Response, serving


@pytest.mark.parametrize("watts", [0, -5])
def test_a_wall_that_shows_no_watts_is_a_failure(watts: int) -> None:
    body = json.dumps({"PowerWatts": {"Reading": watts}}).encode()
    with serving(lambda _: Response(200, body)) as url:
        [(_, error)] = check(BoundaryConfig(wall="redfish", at=url, chassis="1"), environment(Settings()))
    assert isinstance(error, Unavailable)
    assert f"redfish shows {watts} W, which no node that runs draws" in str(error)


def test_a_zone_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    folder = powercap(tmp_path, package_0=1, package_1=2)
    (folder / "intel-rapl:1" / "energy_uj").write_text("?")
    [(_, text), (_, error)] = check(BoundaryConfig(host="rapl", at=str(folder)), environment(Settings()))
    assert text == "host: rapl, package-0"
    assert str(error).startswith("package-1: ")


def test_zones_of_which_none_can_be_read_are_failures_alone(tmp_path: Path) -> None:
    folder = powercap(tmp_path, package_0=1, psys=2)
    (folder / "intel-rapl:0" / "energy_uj").write_text("?")
    [(_, error)] = check(BoundaryConfig(host="rapl", at=str(folder)), environment(Settings()))
    assert str(error).startswith("package-0: ")


def test_a_hint_on_rapl_names_the_option_of_this_table(tmp_path: Path) -> None:
    [(_, error)] = check(BoundaryConfig(host="rapl", at=str(tmp_path)), environment(Settings()))
    assert "`at` of [produce.boundary]" in str(error)


@pytest.mark.parametrize(
    ("options", "refused", "hint"),
    [
        ({}, "a request without a user", "`user`"),
        ({"user": "monitor"}, "user 'monitor' without a password", "`password` (WATTLOG_BOUNDARY_PASSWORD)"),
        ({"user": "monitor", "password": "hidden"}, "user 'monitor'.", "`password` (WATTLOG_BOUNDARY_PASSWORD)"),
        ({"bearer": "hidden"}, "the token", "`bearer` (WATTLOG_BOUNDARY_BEARER)"),
    ],
)
def test_a_source_that_refuses_who_asks_names_them(options: dict[str, str], refused: str, hint: str) -> None:
    with serving(lambda _: Response(403, b"")) as url:
        config = BoundaryConfig(wall="redfish", at=url, chassis="1", **options)  # type: ignore[arg-type]
        [(_, error)] = check(config, environment(Settings()))
    assert f"answers 403: it refuses {refused}" in str(error)
    assert hint in str(error)
    assert "hidden" not in str(error)


def test_a_table_without_host_and_wall_is_noted() -> None:
    [(_, note)] = check(BoundaryConfig(bearer="hidden"), environment(Settings()))  # type: ignore[arg-type]
    assert isinstance(note, NotHere)
    assert "neither `host` nor `wall` is set" in str(note)
