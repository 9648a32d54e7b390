"""Client of zeusd over both its transports: a Unix domain socket, or TCP.

The shapes are those of zeusd 0.3 to 0.5: `/discover` listed devices as bare indices at first, and has described each of
them since. Energy of GPUs is in mJ since their driver was loaded, of CPUs in uJ; power is in mW. Where one of several
devices fails, zeusd answers with errors by device only: the others are asked again without it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import httpx
import msgspec

from contracts.errors import Unavailable
from producers.common.http_client import Pages
from producers.common.zeusd_address import SOCKET
from producers.runtime.refusals import read_each, refusal, shorten

log = logging.getLogger(__name__)

OK, FORBIDDEN = 200, (401, 403)
NOT_FOUND = 404
_T = TypeVar("_T")


class ZeusdGpu(msgspec.Struct, frozen=True):
    """A GPU of `/discover`. Values that older daemons do not give are None or "". There is no UUID."""

    id: int
    name: str = ""
    pci_address: str | None = None
    cumulative_energy_available: bool | None = None


class ZeusdCpu(msgspec.Struct, frozen=True):
    """A CPU package: `id` is the N of `intel-rapl:N`."""

    id: int
    dram_available: bool = False


class ZeusdDiscovery(NamedTuple):
    """Devices of a daemon, without those whose description is malformed."""

    gpus: tuple[ZeusdGpu, ...]
    cpus: tuple[ZeusdCpu, ...]


class ZeusdCpuEnergy(msgspec.Struct, frozen=True):
    """Energy of a CPU package in uJ; None where the package does not measure it."""

    cpu_energy_uj: int | None = None
    dram_energy_uj: int | None = None


class _DiscoveryResponse(msgspec.Struct):
    """`/discover`, in both its forms."""

    gpus: tuple[msgspec.Raw, ...] | None = None
    cpus: tuple[msgspec.Raw, ...] | None = None
    gpu_ids: tuple[int, ...] = ()
    cpu_ids: tuple[int, ...] = ()
    dram_available: tuple[bool, ...] = ()


class _GpuEnergy(msgspec.Struct):
    energy_mj: int


class _GpuPower(msgspec.Struct):
    power_mw: dict[str, msgspec.Raw]


class _Errors(msgspec.Struct):
    errors: dict[int, str] = {}
    error: str = ""


class DeviceErrors(NamedTuple):
    """Devices that zeusd could not read, and why; none where the reason is of the whole request."""

    status: int
    devices: dict[int, str]
    reason: str


def connect(url: str, bearer: str = "") -> Pages:
    """Return an HTTP client for `ZeusdClient`."""
    if url.startswith(SOCKET):
        return Pages(bearer=bearer, transport=httpx.HTTPTransport(uds=url.removeprefix(SOCKET)))
    return Pages(bearer=bearer)


class ZeusdClient:
    """Client of one daemon. Its methods raise Unavailable where zeusd does not answer, refuses, or is no zeusd.

    Methods that read devices return (values, errors), both by device index.
    """

    def __init__(self, url: str, pages: Pages) -> None:
        self.url, self.pages = url, pages
        self.base = "http://zeusd" if url.startswith(SOCKET) else url

    @property
    def is_local(self) -> bool:
        """True if the daemon is certainly of this machine, so that this machine's view of its devices is zeusd's."""
        return self.url.startswith(SOCKET)

    def discover(self) -> ZeusdDiscovery:
        """Return the daemon's devices. A malformed one is logged and left out."""
        status, text = self._get("/discover")
        if status == NOT_FOUND:
            raise Unavailable(f"{self.url} has no /discover", "Wattlog reads zeusd 0.3 or later.", lasting=True)
        if status != OK:
            raise Unavailable(f"{self.url}/discover answers {status}", "Is that zeusd?")
        response = self._decode(text, _DiscoveryResponse)
        gpus = tuple(ZeusdGpu(index) for index in response.gpu_ids)
        if response.gpus is not None:
            gpus = self._devices(response.gpus, ZeusdGpu)
        cpu_ids = zip(response.cpu_ids, response.dram_available, strict=False)
        cpus = tuple(ZeusdCpu(index, has_dram) for index, has_dram in cpu_ids)
        if response.cpus is not None:
            cpus = self._devices(response.cpus, ZeusdCpu)
        return ZeusdDiscovery(gpus, cpus)

    def gpu_energy_mj(self, gpus: Collection[int]) -> tuple[dict[int, int], dict[int, str]]:
        """Return energy counters in mJ."""
        path = "/gpu/get_cumulative_energy?gpu_ids="
        energy, errors = self._read_devices(path, gpus, self._by_device, _GpuEnergy)
        return {gpu: value.energy_mj for gpu, value in energy.items()}, errors

    def gpu_power_mw(self, gpus: Collection[int]) -> tuple[dict[int, int], dict[int, str]]:
        """Return power in mW."""

        def values(text: str) -> dict[str, msgspec.Raw]:
            return self._decode(text, _GpuPower).power_mw

        return self._read_devices("/gpu/get_power?gpu_ids=", gpus, values, int)

    def cpu_energy_uj(self, cpus: Collection[int]) -> tuple[dict[int, ZeusdCpuEnergy], dict[int, str]]:
        """Return energy counters of CPU packages in uJ."""
        path = "/cpu/get_cumulative_energy?cpu=true&dram=true&cpu_ids="
        return self._read_devices(path, cpus, self._by_device, ZeusdCpuEnergy)

    def _by_device(self, text: str) -> dict[str, msgspec.Raw]:
        return self._decode(text, dict[str, msgspec.Raw])

    def _read_devices(
        self, path: str, devices: Collection[int], values: Callable[[str], dict[str, msgspec.Raw]], kind: type[_T]
    ) -> tuple[dict[int, _T], dict[int, str]]:
        """Read devices, each value as `kind`. Devices that fail are left out of the next request."""
        left, errors = sorted(devices), dict[int, str]()
        while left:
            response = self._request(path + ",".join(map(str, left)), values)
            if not isinstance(response, DeviceErrors):
                readings, malformed = _decode_each(response, left, kind)
                return readings, errors | malformed
            failed = {device: error for device, error in response.devices.items() if device in left}
            if not failed and len(left) > 1:  # zeusd does not say which device failed: ask for each alone.
                readings = dict[int, _T]()
                for device in left:
                    reading, error = self._read_devices(path, [device], values, kind)
                    readings |= reading
                    errors |= error
                return readings, errors
            errors |= failed or {left[0]: f"{response.status}: {response.reason}"}
            left = [device for device in left if device not in errors]
        return {}, errors

    def _devices(self, raw: tuple[msgspec.Raw, ...], kind: type[_T]) -> tuple[_T, ...]:
        refused: list[str] = []
        placed = ((f"{self.url}, device {n}", bytes(device)) for n, device in enumerate(raw))
        decode = partial(msgspec.json.decode, type=kind, strict=False)
        devices = list(read_each(placed, decode, refused, show=True))
        for text in refused:
            log.warning("a device is left out: %s", text)
        if raw and not devices:
            raise Unavailable(f"{self.url} does not answer as zeusd does: no device is readable", "Is that zeusd?")
        return tuple(devices)

    def _request(
        self, path: str, values: Callable[[str], dict[str, msgspec.Raw]]
    ) -> dict[str, msgspec.Raw] | DeviceErrors:
        status, text = self._get(path)
        if status == OK:
            return values(text)
        group = f"{path.split('/')[1]}-read"
        if status == NOT_FOUND:
            hint = f"Start zeusd with --enable {group}."
            raise Unavailable(f"{self.url} does not serve {path.partition('?')[0]}", hint, lasting=True)
        if status in FORBIDDEN:
            hint = f"Give a token of the scope {group} that has not expired (`bearer`)."
            raise Unavailable(f"{self.url} answers {status}: it refuses the token", hint, lasting=True)
        try:
            errors = msgspec.json.decode(text, type=_Errors)
        except Exception:
            raise Unavailable(f"{self.url}{path} answers {status}", "Its own log says why.") from None
        return DeviceErrors(status, errors.errors, errors.error or "no reason given")

    def _get(self, path: str) -> tuple[int, str]:
        if self.is_local and not Path(self.url.removeprefix(SOCKET)).exists():
            raise Unavailable(f"There is no socket {self.url}", "Is zeusd running? In a container, mount its folder.")
        return self.pages.answer("GET", self.base + path)

    def _decode(self, text: str, kind: type[_T]) -> _T:
        try:
            return msgspec.json.decode(text, type=kind, strict=False)
        except Exception as error:
            raise Unavailable(f"{self.url} does not answer as zeusd does: {shorten(error)}", "Is that zeusd?") from None


def _decode_each(
    raw: dict[str, msgspec.Raw], devices: Collection[int], kind: type[_T]
) -> tuple[dict[int, _T], dict[int, str]]:
    """Decode the value of each device alone: a malformed one costs no other. `raw` is by index as text.

    The error of a malformed one is an `ItemRefusal`, those that zeusd reports are texts.
    """
    readings, errors = dict[int, _T](), dict[int, str]()
    for device in devices:
        if str(device) in raw:
            try:
                readings[device] = msgspec.json.decode(raw[str(device)], type=kind, strict=False)
            except Exception as error:
                errors[device] = refusal(error, f"device {device}", bytes(raw[str(device)]))
    return readings, errors
