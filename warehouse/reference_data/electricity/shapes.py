"""Shapes of electricity files, and their prices. Any other file is a CSV or JSON of prices."""

from __future__ import annotations

import json
from dataclasses import dataclass

from contracts.errors import BadInput
from contracts.settings import Settings
from contracts.time_zones import local_epoch_ms, zone_of
from warehouse.reference_data.electricity.entsoe import read_entsoe
from warehouse.reference_data.electricity.entsoe_table import is_entsoe_table, read_entsoe_table
from warehouse.reference_data.electricity.openei_rate import is_openei_rate, read_openei_rate
from warehouse.reference_data.electricity.price_series import PriceSeries, check_currency
from warehouse.reference_data.files import MAX_BYTES, MAX_ROWS


@dataclass(frozen=True, slots=True)
class SeriesChoice:
    """Options of an import of electricity prices; None where one is not given."""

    cluster: str | None = None
    zone: str | None = None
    series: str | None = None
    start: str | None = None
    end: str | None = None
    time_zone: str | None = None
    currency: str | None = None

    def check_unused(self) -> None:
        """Raise BadInput for an option that a plain file of prices has as a column."""
        options = (
            ("--cluster", self.cluster), ("--zone", self.zone), ("--series", self.series),
            ("--from", self.start), ("--to", self.end),
        )  # fmt: skip
        for option, value in options:
            if value is not None:
                raise BadInput(option, value, "this is for files of ENTSO-E or OpenEI: others have columns")


def read_series(content: bytes, source: str, choice: SeriesChoice, settings: Settings) -> PriceSeries | None:
    """Return the prices of a file of ENTSO-E or OpenEI, None for one of another shape.

    Raises BadInput for a faulty file, an option that its shape does not have, and a missing one.
    """
    if len(content) > MAX_BYTES:
        raise BadInput(source, f"{len(content)} bytes", f"give at most {MAX_BYTES} bytes, {MAX_ROWS} rows")
    start = content[:512].removeprefix(b"\xef\xbb\xbf").lstrip()
    text = content.decode("utf-8", "replace") if start[:1] != b"<" else ""
    series: PriceSeries | None
    if start[:2] == b"PK":
        raise BadInput(source, "a ZIP file", "unpack it, and import its files one by one")
    if start[:1] == b"<":
        _needs_cluster_alone(choice, source)
        series = read_entsoe(content, source, choice.zone, choice.series)
    elif is_entsoe_table(text):
        _needs_cluster_alone(choice, source)
        series = read_entsoe_table(text, source, choice.zone, choice.series)
    elif start[:1] in (b"{", b"[") and _STRUCTURE in content:
        series = _openei(text, source, choice)
    else:
        series = None
    if series is None:
        return None
    check_currency(choice.currency, settings.currency, series.currency, source)
    return series


_STRUCTURE = b"energyratestructure"


def _openei(text: str, source: str, choice: SeriesChoice) -> PriceSeries | None:
    try:
        document = json.loads(text, parse_float=str, parse_int=str)
    except (ValueError, RecursionError) as error:
        raise BadInput(source, text[:40], f"this is not JSON: {error}") from None
    if not is_openei_rate(document):
        return None
    _needs_cluster(choice, source)
    for option, value in (("--zone", choice.zone), ("--series", choice.series)):
        if value is not None:
            raise BadInput(option, value, "a rate of OpenEI has none: leave it out")
    if choice.time_zone is None:
        raise BadInput("--tz", "", "a rate has local hours: give the utility's zone, such as America/New_York")
    if choice.start is None or choice.end is None:
        raise BadInput("--from and --to", "", "a rate has no days: give the first day, and the day after the last")
    zone = zone_of(choice.time_zone, "--tz")
    times = []
    for option, at in (("--from", choice.start), ("--to", choice.end)):
        try:
            times.append(local_epoch_ms(at, zone))
        except ValueError as error:
            raise BadInput(option, at, f"give a day, such as 2026-12-01 ({error})") from None
    return read_openei_rate(document, source, zone, (times[0], times[1]), choice.currency)


def _needs_cluster(choice: SeriesChoice, source: str) -> None:
    if not choice.cluster:
        raise BadInput("--cluster", "", f"{source} names none: give the cluster that pays these prices")


def _needs_cluster_alone(choice: SeriesChoice, source: str) -> None:
    _needs_cluster(choice, source)
    if choice.start is not None or choice.end is not None:
        raise BadInput("--from and --to", choice.start or choice.end, f"{source} has its own times: leave them out")
