"""What zeusd answers, as values. One client for both its transports: a Unix domain socket, or TCP.

The shapes are those of zeusd 0.3 to 0.5: `/discover` named devices by bare indices at first and describes each of them
since. Energy of GPUs is in mJ since their driver was loaded, of CPUs in uJ; power is in mW. Where one device of several
fails, zeusd answers with the errors alone, by device: the others are asked again without it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import NamedTuple, TypeVar

import httpx
import msgspec

from contracts.errors import Unavailable
from producers.common.http_client import Pages
from producers.common.zeusd_address import SOCKET

OK, FORBIDDEN = 200, (401, 403)
NOT_FOUND = 404
_T = TypeVar("_T")


class ZeusdGpu(msgspec.Struct, frozen=True):
    """A GPU of `/discover`. What older daemons do not tell is None, or "". There is no UUID."""

    id: int
    name: str = ""
    pci_address: str | None = None
    cumulative_energy_available: bool | None = None


class ZeusdCpu(msgspec.Struct, frozen=True):
    """A CPU package: `id` is the N of `intel-rapl:N`."""

    id: int
    dram_available: bool = False


class ZeusdDiscovery(msgspec.Struct, frozen=True):
    """`/discover`, in both its forms."""

    gpus: tuple[ZeusdGpu, ...] | None = None
    cpus: tuple[ZeusdCpu, ...] | None = None
    gpu_ids: tuple[int, ...] = ()
    cpu_ids: tuple[int, ...] = ()
    dram_available: tuple[bool, ...] = ()
    enabled_api_groups: tuple[str, ...] = ()

    def all_gpus(self) -> tuple[ZeusdGpu, ...]:
        return self.gpus if self.gpus is not None else tuple(ZeusdGpu(i) for i in self.gpu_ids)

    def all_cpus(self) -> tuple[ZeusdCpu, ...]:
        if self.cpus is not None:
            return self.cpus
        return tuple(ZeusdCpu(i, has) for i, has in zip(self.cpu_ids, self.dram_available, strict=False))


class ZeusdCpuEnergy(msgspec.Struct, frozen=True):
    """uJ; None where the package does not measure it."""

    cpu_energy_uj: int | None = None
    dram_energy_uj: int | None = None


class _GpuEnergy(msgspec.Struct):
    energy_mj: int


class _GpuPower(msgspec.Struct):
    power_mw: dict[int, int]


class _Errors(msgspec.Struct):
    errors: dict[int, str] = {}
    error: str = ""


class DeviceErrors(NamedTuple):
    """Which devices zeusd could not read, and why; none where it says so of the whole question."""

    status: int
    devices: dict[int, str]
    why: str


def connect(url: str, bearer: str = "") -> Pages:
    """A client for `Zeusd`."""
    if url.startswith(SOCKET):
        return Pages(bearer=bearer, transport=httpx.HTTPTransport(uds=url.removeprefix(SOCKET)))
    return Pages(bearer=bearer)


class ZeusdClient:
    """One daemon. Every method raises Unavailable where it does not answer, refuses, or answers something else."""

    def __init__(self, url: str, pages: Pages) -> None:
        self.url, self.pages = url, pages
        self.base = "http://zeusd" if url.startswith(SOCKET) else url

    @property
    def is_local(self) -> bool:
        """Whether it is certainly of this machine: what this machine knows of its devices then holds for zeusd's."""
        return self.url.startswith(SOCKET)

    def discover(self) -> ZeusdDiscovery:
        status, text = self._answer("/discover")
        if status == NOT_FOUND:
            raise Unavailable(f"{self.url} has no /discover", "Wattlog reads zeusd 0.3 or later.", lasting=True)
        if status != OK:
            raise Unavailable(f"{self.url}/discover answers {status}", "Is that zeusd?")
        return self._read(text, ZeusdDiscovery)

    def gpu_energy_mj(self, gpus: Collection[int]) -> tuple[dict[int, int], dict[int, str]]:
        """(mJ by GPU, why not by GPU)."""
        path = "/gpu/get_cumulative_energy?gpu_ids="
        found, errors = self._of_each(path, gpus, lambda text: self._read(text, dict[int, _GpuEnergy]))
        return {gpu: each.energy_mj for gpu, each in found.items()}, errors

    def gpu_power_mw(self, gpus: Collection[int]) -> tuple[dict[int, int], dict[int, str]]:
        """(mW by GPU, why not by GPU)."""
        return self._of_each("/gpu/get_power?gpu_ids=", gpus, lambda text: self._read(text, _GpuPower).power_mw)

    def cpu_energy_uj(self, cpus: Collection[int]) -> tuple[dict[int, ZeusdCpuEnergy], dict[int, str]]:
        """(uJ by package, why not by package)."""
        path = "/cpu/get_cumulative_energy?cpu=true&dram=true&cpu_ids="
        return self._of_each(path, cpus, lambda text: self._read(text, dict[int, ZeusdCpuEnergy]))

    def _of_each(
        self, path: str, devices: Collection[int], read: Callable[[str], dict[int, _T]]
    ) -> tuple[dict[int, _T], dict[int, str]]:
        left, errors = sorted(devices), dict[int, str]()
        while left:
            answer = self._ask(path + ",".join(map(str, left)), read)
            if not isinstance(answer, DeviceErrors):
                return {device: answer[device] for device in left if device in answer}, errors
            failed = {d: why for d, why in answer.devices.items() if d in left}
            if not failed and len(left) > 1:  # It does not say which: ask one by one.
                parts = [self._of_each(path, [device], read) for device in left]
                return {k: v for found, _ in parts for k, v in found.items()}, errors | {
                    k: v for _, more in parts for k, v in more.items()
                }
            errors |= failed or {left[0]: f"{answer.status}: {answer.why}"}
            left = [device for device in left if device not in errors]
        return {}, errors

    def _ask(self, path: str, read: Callable[[str], dict[int, _T]]) -> dict[int, _T] | DeviceErrors:
        status, text = self._answer(path)
        if status == OK:
            return read(text)
        group = f"{path.split('/')[1]}-read"
        if status == NOT_FOUND:
            mend = f"Start zeusd with --enable {group}."
            raise Unavailable(f"{self.url} does not serve {path.partition('?')[0]}", mend, lasting=True)
        if status in FORBIDDEN:
            mend = f"Give a token of the scope {group} that has not expired (`bearer`)."
            raise Unavailable(f"{self.url} answers {status}: it refuses the token", mend, lasting=True)
        try:
            said = msgspec.json.decode(text, type=_Errors)
        except msgspec.DecodeError:
            raise Unavailable(f"{self.url}{path} answers {status}", "Its own log says why.") from None
        return DeviceErrors(status, said.errors, said.error or "no reason given")

    def _answer(self, path: str) -> tuple[int, str]:
        if self.is_local and not Path(self.url.removeprefix(SOCKET)).exists():
            raise Unavailable(f"There is no socket {self.url}", "Is zeusd running? In a container, mount its folder.")
        return self.pages.answer("GET", self.base + path)

    def _read(self, text: str, kind: type[_T]) -> _T:
        try:
            return msgspec.json.decode(text, type=kind, strict=False)
        except msgspec.DecodeError as error:
            raise Unavailable(f"{self.url} does not answer as zeusd does: {error}", "Is that zeusd?") from None
