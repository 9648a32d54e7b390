"""Power of a node from pages over HTTP: its BMC by Redfish, a PDU or an exporter by names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction

import msgspec

from contracts.errors import BadInput, Unavailable
from producers.common.printable import printable
from producers.common.prometheus_text import parse_page
from producers.gpu.exporter_formats import POWER_UNITS, Quantity

Get = Callable[[str], tuple[int, str]]
"""GET of an address: status and text. Raises Unavailable where nothing answers, or where it refuses who asks."""
CHASSIS = "/redfish/v1/Chassis"
OK, NOT_FOUND = 200, 404
_REDIRECTS = (301, 302, 307, 308)
MAX_DEPTH = 16


class Redfish:
    """Power of a chassis by DMTF's Redfish: `EnvironmentMetrics`, or `Power` of older BMCs.

    The counter `EnergykWh` is not read: it moves in steps of minutes of a node's use. Without a name of the chassis,
    there must be one only.
    """

    def __init__(self, url: str, chassis: str, get: Get) -> None:
        self._url, self._chassis, self._get = url.rstrip("/"), chassis, get

    def watts(self) -> float:
        """Return the chassis' power. Raises Unavailable where it shows none, or where there is no such chassis."""
        if not self._chassis:
            self._chassis = self._only_chassis()
        base = f"{self._url}{CHASSIS}/{self._chassis}"
        has_resource = False
        for resource, path in (
            ("EnvironmentMetrics", "PowerWatts.Reading"),
            ("Power", "PowerControl.0.PowerConsumedWatts"),
        ):
            status, text = self._page(f"{base}/{resource}")
            if status == NOT_FOUND:
                continue
            has_resource = True
            watts = _at(_decode(f"{base}/{resource}", status, text), path)
            if watts is not None:
                return _number(f"{base}/{resource}", path, watts)
        if not has_resource and self._page(base)[0] == NOT_FOUND:
            problem = f"There is no chassis {self._chassis} at {self._url}, but {_listed(self._chassis_names())}"
            raise Unavailable(problem, "Name the node's (`chassis`).")
        raise Unavailable(
            f"{base} shows no power", "It needs EnvironmentMetrics with PowerWatts, or Power with PowerConsumedWatts."
        )

    def _page(self, url: str) -> tuple[int, str]:
        """Return status and text of a resource; HPE's BMCs redirect to the same with a slash at its end."""
        status, text = self._get(url)
        return self._get(url + "/") if status in _REDIRECTS else (status, text)

    def _only_chassis(self) -> str:
        names = self._chassis_names()
        if len(names) != 1:
            page = self._url + CHASSIS
            raise Unavailable(f"{page} has these chassis: {_listed(names)}", "Name the node's (`chassis`).")
        return names[0]

    def _chassis_names(self) -> list[str]:
        page = self._url + CHASSIS
        members = _at(_decode(page, *self._page(page)), "Members")
        dicts = [member for member in members if isinstance(member, dict)] if isinstance(members, list) else []
        links = [member.get("@odata.id") for member in dicts]
        return [str(link).rstrip("/").rpartition("/")[2] for link in links]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(printable(name) for name in names[:10]) or "none"


def json_watts(url: str, path: str, unit: str, get: Get) -> float:
    """Return a number of a JSON document, by its path such as `outlets.3.watts`, in watts."""
    watts = _number(url, path, _at(_decode(url, *get(url)), path))
    return float(Fraction(watts) * POWER_UNITS[unit])


def page_watts(url: str, quantity: Quantity, labels: Mapping[str, str], get: Get) -> float:
    """Return the only sample of a name and labels on a page in Prometheus' format, in watts."""
    status, text = get(url)
    _check(url, status)
    rows = [
        (row, power) for row, power in parse_page(text).get(quantity.sample)
        if all(row.get(label) == value for label, value in labels.items())
    ]  # fmt: skip
    if len(rows) != 1:
        raise Unavailable(
            f"{url} has {len(rows)} samples {quantity.sample} with these labels",
            "Give the name of one sample (`sample`), and labels that only the node's has (`labels`).",
        )
    watts = quantity.value_of(rows[0][1])
    if watts is None:
        raise Unavailable(f"{url} says {rows[0][1]} for {quantity.sample}", "It should be a power.")
    return float(watts)


def _decode(url: str, status: int, text: str) -> object:
    _check(url, status)
    try:
        return msgspec.json.decode(text)
    except Exception:  # Of any class: nesting without end, too.
        raise BadInput("body", text[:60], f"{url} is no JSON") from None


def _check(url: str, status: int) -> None:
    if status != OK:
        raise Unavailable(f"{url} answers {status}", "Is that the right address?")


def _at(document: object, path: str) -> object:
    """Return what is at a path of names and numbers, or None."""
    for part in path.split(".", MAX_DEPTH):
        if isinstance(document, dict):
            document = document.get(part)
        elif isinstance(document, list) and part.isascii() and part.isdigit() and int(part) < len(document):
            document = document[int(part)]
        else:
            return None
    return document


def _number(url: str, path: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadInput(path, str(value)[:60], f"{url} should have a number there")
    return float(value)
