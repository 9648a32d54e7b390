"""Columns of the power file: which header is what, and the quantity that a row uses.

A file may have several columns of power or energy. Each row uses the best one that has a value: see `POWER_NAMES`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from contracts.errors import BadInput
from producers.gpu.plausibility import MAX_WATTS
from producers.recordings.csv_table import BadCell, CsvLine, CsvTable, has_no_value
from producers.recordings.csv_units import (
    ENERGY_FIX,
    ENERGY_UNITS,
    POWER_FIX,
    POWER_UNITS,
    parse_header,
    quantity,
    scale_of,
)

POWER_COLUMNS = {
    "time": (
        "time", "timestamp", "datetime", "date_time", "elapsed_s", "elapsed_ms", "elapsed", "time_s", "time_ms",
        "seconds", "relative_time",
    ),
    "date": ("date",),
    "duration": ("duration", "duration_s", "duration_ms", "interval_s", "interval_ms"),
    "gpu": ("gpu", "gpu_uuid", "uuid"),
    "pci": ("pci.bus_id", "gpu_bus_id", "pci_bus_id", "bus_id", "bdf"),
    "index": ("index", "gpu_index", "gpu_id", "minor_number", "device", "card"),
    "serial": ("serial", "gpu_serial", "serial_number"),
    "hardware": ("hardware", "name", "gpu_name"),
    "utilization": ("utilization", "utilization.gpu"),
    "node": ("node", "hostname", "host"),
    "workload": ("workload",),
    "cluster": ("cluster",),
    "owner": ("owner",),
}  # fmt: skip
"""Columns of the power file, and the headers that they may have, best first (those with dots are nvidia-smi's)."""
IDENTITIES = ("gpu", "pci", "index", "serial")
"""Columns that tell GPUs apart, best first. A serial number may be that of a board with two GPUs."""
POWER_NAMES = (
    "power", "power_draw", "power_draw_average", "power_draw_instant", "average_power_draw", "instant_power_draw",
    "average_power", "power_average", "avg_power", "power_avg", "instant_power", "power_instant", "current_power",
    "gpu_power", "gpu_power_draw", "gpu_power_usage", "power_usage", "watts", "pwr", "board_power", "board_power_draw",
    "socket_power", "average_socket_power", "current_socket_power", "average_graphics_package_power",
    "current_socket_graphics_package_power", "gpu_package_power", "dcgm_fi_dev_power_usage",
)  # fmt: skip
"""Names of watts, best first, without their units; `.`, `-` and blanks are written `_`. A limit is never power."""
ENERGY_NAMES = (
    "energy", "energy_consumption", "energy_consumed", "total_energy", "total_energy_consumption",
    "total_energy_consumed", "gpu_energy", "gpu_energy_consumed", "gpu_energy_consumption", "energy_counter", "joules",
    "dcgm_fi_dev_total_energy_consumption",
)  # fmt: skip
"""Names of energy counters, best first."""
_DEFAULT_UNITS = {"joules": "J", "dcgm_fi_dev_total_energy_consumption": "mJ"}
_UNITLESS_POWER = ("power_usage", "gpu_power_usage")
"""Names that stand for watts in one tool and for milliwatts in another, so they need a unit."""
_MODULE = "module_"
MAX_COUNTER_UJ = 2**62 * 1000
"""About 1.3 TWh. Blanks such as DCGM's (9.2e18 mJ) are greater."""


class QuantityColumn(NamedTuple):
    """A column of watts or energy: its place, its header, and how many microwatts or microjoules are 1."""

    at: int
    header: str
    scale: int | None


class QuantityColumns:
    """The columns of power and energy of one header, each list best first."""

    def __init__(self, table: CsvTable) -> None:
        headers = [(i, cell.strip(), parse_header(cell)) for i, cell in enumerate(table.header_cells)]

        def columns(names: Sequence[str], units: Mapping[str, int], fix: str, prefix: str = "") -> list[QuantityColumn]:
            chosen = [
                (names.index(header.name.removeprefix(prefix)), i, text, header)
                for i, text, header in headers
                if header.name.startswith(prefix) and header.name.removeprefix(prefix) in names
            ]
            chosen.sort(key=lambda column: column[:2])
            return [QuantityColumn(i, text, _scale(text, header.name, header.unit, units, fix))
                    for _, i, text, header in chosen]  # fmt: skip

        self.watts = columns(POWER_NAMES, POWER_UNITS, POWER_FIX)
        self.module_watts = columns(POWER_NAMES, POWER_UNITS, POWER_FIX, _MODULE)
        self.energy = columns(ENERGY_NAMES, ENERGY_UNITS, ENERGY_FIX)
        if not (self.watts or self.module_watts or self.energy):
            limits = [text for _, text, h in headers if "limit" in h.name or "cap" in h.name.split("_")]
            about = f"; {limits[0]} is a limit, not a reading" if limits else ""
            raise BadInput(
                "columns", table.columns,
                f"{table.path.name} also needs energy_mj, energy_j or power_w (such as power.draw){about}",
            )  # fmt: skip

    def counter_uj(self, line: CsvLine) -> int | None:
        """Return a row's energy, or None if no column has a value."""
        return _value(line, self.energy, ENERGY_UNITS, ENERGY_FIX, _counter_fault)

    def watts_of(self, line: CsvLine, *, module: bool) -> float | None:
        """Return a row's watts, of the GPU or of its module, or None if no column has a value."""
        columns = self.module_watts if module else self.watts
        power_uw = _value(line, columns, POWER_UNITS, POWER_FIX, _power_fault)
        return None if power_uw is None else power_uw / 1e6

    def blank(self, line: CsvLine) -> BadCell:
        """Return the report of a row without any value."""
        column = (self.energy + self.watts + self.module_watts)[0]
        return BadCell(column_label(column), line.cell(column.at), "no reading: neither a counter nor watts")


def column_label(column: QuantityColumn) -> str:
    """Return a column's name in reports: its header without the unit in brackets."""
    return column.header.split("[")[0].split("(")[0].strip().lower()


def _scale(text: str, name: str, unit: str, units: Mapping[str, int], fix: str) -> int | None:
    """Return the scale of a header's unit; None where each cell must have a unit. Raises BadInput for another unit."""
    unit = unit or _DEFAULT_UNITS.get(name, "")
    if not unit:
        return units["W"] if "W" in units and name not in _UNITLESS_POWER else None
    scale = scale_of(unit, units)
    if scale is None:
        raise BadInput("header", text, f"unknown unit {unit}: {fix}")
    return scale


def _value(
    line: CsvLine, columns: Sequence[QuantityColumn], units: Mapping[str, int], fix: str, fault: Callable[[int], str]
) -> int | None:
    """Return the first value among columns. Raises BadCell for the first faulty cell if none of them has one."""
    first_fault: BadCell | None = None
    for column in columns:
        text = line.cell(column.at)
        if has_no_value(text):
            continue
        try:
            value = quantity(text, units, column.scale, fix)
            if message := fault(value):
                raise ValueError(message)
        except ValueError as error:
            first_fault = first_fault or BadCell(column_label(column), text, str(error))
            continue
        return value
    if first_fault:
        raise first_fault
    return None


def _counter_fault(counter_uj: int) -> str:
    plausible = 0 <= counter_uj < MAX_COUNTER_UJ
    return "" if plausible else "no counter reads that: give a number of 0 or more, below 2^62 mJ"


def _power_fault(power_uw: int) -> str:
    return "" if 0 <= power_uw <= MAX_WATTS * 10**6 else f"give 0 to {MAX_WATTS} watts"
