"""Power of NVIDIA's Grace CPUs: the kernel's ACPI power meters, `hwmon*/power1_average` in microwatts.

`power1_oem_info` names what a meter measures:

* "Grace Power Socket 0" is the CPU and its memory. It is read where it exists.

* "CPU Power Socket 0" is the cores alone. It is read otherwise.

* "Module Power Socket 0" contains the GPU, and "SysIO Power Socket 0" is part of Grace's. Neither is ever read.
"""

from __future__ import annotations

import re
from pathlib import Path

from contracts.errors import Unavailable

HWMON = Path("/sys/class/hwmon")
_METER = re.compile(r"(Grace|CPU) Power Socket (\d{1,3})", re.ASCII)
_MICROWATTS = re.compile(r"\d{1,12}", re.ASCII)
UW_PER_W = 1_000_000
_HINT = "Grace has these files. In a container, mount the node's /sys/class/hwmon and /sys/devices read-only (`at`)."


class HwmonPower:
    """Power of all sockets under a folder of hwmon devices: Grace's where it is shown, else the cores'."""

    def __init__(self, folder: Path = HWMON) -> None:
        self._folder = folder
        self._files: dict[int, Path] = {}

    def watts(self) -> float:
        """Return the sum of the sockets. Raises Unavailable where one cannot be read: part of it is no measurement."""
        if not self._files:
            self._files = _meters(self._folder)
        return sum(_microwatts(path) for path in self._files.values()) / UW_PER_W


def _meters(folder: Path) -> dict[int, Path]:
    """Return the file of each socket. Raises Unavailable where there are none."""
    files: dict[tuple[str, int], Path] = {}
    # Kernels before 6.14 have a meter's files below `device`.
    for path in sorted([*folder.glob("hwmon*/power1_oem_info"), *folder.glob("hwmon*/device/power1_oem_info")]):
        if match := _METER.search(_text(path)):
            files.setdefault((match[1], int(match[2])), path.with_name("power1_average"))
    kind = "Grace" if any(kind == "Grace" for kind, _ in files) else "CPU"
    sockets = {socket: path for (of, socket), path in files.items() if of == kind}
    if not sockets:
        raise Unavailable(f"No power meter under {folder} is a CPU's", _HINT)
    return sockets


def _microwatts(path: Path) -> int:
    text = _text(path)
    if not _MICROWATTS.fullmatch(text):
        raise Unavailable(f"{path} says {text[:60]!r}", "It should be microwatts: is that a power meter?")
    return int(text)


def _text(path: Path) -> str:
    try:
        return path.read_text("ascii").strip()
    except Exception as error:
        raise Unavailable(f"{path} cannot be read: {error}", _HINT) from None
