"""Options of `[produce.boundary]`: which energy of its node an agent reads beside its GPUs'."""

from __future__ import annotations

import base64
import fcntl
import logging
import ssl
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, ClassVar, Literal, NamedTuple

from pydantic import AfterValidator, Field, SecretStr
from pydantic_settings import SettingsConfigDict

from contracts import topics
from contracts.boundary import HOST, WALL_LESS_GPUS
from contracts.errors import BadSetting, Unavailable, WattlogError
from producers.api import Environment, Finding, Kind, NotHere, Plugin
from producers.boundary.hwmon import HWMON, HwmonPower
from producers.boundary.meters import CounterMeter, CounterReading, LazyCounters, NodeMeter, WattsMeter, device_of
from producers.boundary.pages import Get, Redfish, json_watts, page_watts
from producers.boundary.reading import BackgroundReader, DirectReader, Reader, Value
from producers.common.zeusd_address import address
from producers.gpu.exporter_formats import Quantity
from producers.host.pm_counters import MAX_NODE_W, NODE, PM_COUNTERS, PmCounters
from producers.host.rapl import DRAM, PACKAGE, POWERCAP, RaplCounters
from producers.host.source import HostCounters
from producers.runtime.clock import boot_id
from producers.runtime.config import ProducerConfig, load, without_secrets
from producers.runtime.refusals import at_place

log = logging.getLogger(__name__)

ZEUSD = "unix:///run/zeusd/zeusd.sock"
MAX_ZONE_W = 1_000.0
NAMED = ("prometheus", "json")
"""Sources that need the name of a sample."""
OVER_HTTP = ("redfish", *NAMED)
REFUSED = (401, 403)
NOTHING_READ = "neither `host` nor `wall` is set: nothing is read"
FILES = ("rapl", "hwmon", "pm_counters")
"""Sources that are files of the kernel."""
SOURCES_OF = {
    "chassis": ("redfish",), "sample": NAMED, "unit": NAMED, "labels": ("prometheus",), "user": OVER_HTTP,
    "ca": OVER_HTTP, "every_s": (*OVER_HTTP, "zeusd"), "max_zone_w": ("rapl", "zeusd", "pm_counters"),
}  # fmt: skip
"""Sources that an option is for. Secrets are not in it: the environment of all agents may have them."""


class BoundaryConfig(ProducerConfig):
    """Options of a node's energy beside its GPUs, which all agents of GPUs share."""

    model_config = SettingsConfigDict(env_prefix="WATTLOG_BOUNDARY_")
    name: ClassVar[str] = "boundary"
    host: Literal["", "rapl", "zeusd", "hwmon", "pm_counters"] = Field(
        "", description="Source of the energy of CPUs and memory; empty: none."
    )
    wall: Literal["", "redfish", "pm_counters", "prometheus", "json"] = Field(
        "", description="Source of the energy of the whole node; empty: none. Never with `host`."
    )
    at: Annotated[str, AfterValidator(without_secrets)] = Field(
        "", description="Folder or address of the source; empty: where it usually is."
    )
    every_s: float = Field(5.0, ge=1, le=60, description="Seconds between two readings over HTTP.")
    chassis: str = Field("", description="Redfish's name of the node's chassis, where there are several.")
    sample: str = Field("", description="Name of the sample, or path of the number in the JSON.")
    unit: Literal["mW", "W", "kW"] = Field("W", description="Unit of that sample.")
    labels: dict[str, str] = Field({}, description="Labels that only the node's sample has.")
    user: str = Field("", description="User of the BMC or PDU.")
    password: SecretStr | None = Field(None, description="Password of that user.")
    bearer: SecretStr | None = Field(None, description="Bearer token that the source asks for.")
    ca: Path | None = Field(None, description="Certificates that the source shows or is signed by.")
    max_zone_w: float | None = Field(None, ge=10, le=20_000, description="More watts than any zone of a counter draws.")


class NodeSource(NamedTuple):
    """Source of a node's energy: a read of `watts`, or `counters`. `place` is for people; slow is one over HTTP."""

    hardware: str
    name: str
    place: str
    is_slow: bool
    watts: Callable[[], float] | None = None
    counters: LazyCounters | None = None


def source_of(options: BoundaryConfig, environment: Environment) -> NodeSource | None:
    """Return the configured source, None where there is none. Nothing is read. Raises BadSetting."""
    if options.host and options.wall:
        hint = f'host = "{options.host}" is set too, and the wall contains the host: leave out one of them'
        raise BadSetting("produce.boundary.wall", options.wall, hint)
    _check_options(options)
    name = options.host or options.wall
    if not name:
        return None
    hardware = HOST if options.host else WALL_LESS_GPUS
    if name == "hwmon":
        folder = Path(options.at or HWMON)
        return NodeSource(hardware, name, str(folder), False, watts=HwmonPower(folder).watts)
    if name in OVER_HTTP:
        return NodeSource(hardware, name, options.at, True, watts=_watts(options, _get(options, environment)))
    prefixes: tuple[str, ...] = (PACKAGE, DRAM)
    if name == "pm_counters":
        prefixes = ("cpu", "memory") if options.host else (NODE,)
    places = {"rapl": str(POWERCAP), "zeusd": ZEUSD, "pm_counters": str(PM_COUNTERS)}
    place = options.at or places[name]
    counters = LazyCounters(_opener(name, place, options, environment), prefixes)
    return NodeSource(hardware, name, place, name == "zeusd", counters=counters)


def _check_options(options: BoundaryConfig) -> None:
    """Raise BadSetting for an option that the source lacks, and for one that no source or another one would use."""
    name = options.host or options.wall
    for option, sources in SOURCES_OF.items():
        value = getattr(options, option)
        if value != BoundaryConfig.model_fields[option].default and name not in sources:
            fix = f"this is an option of {', '.join(sources)}; {name} would ignore it" if name else NOTHING_READ
            raise BadSetting(f"produce.boundary.{option}", value, fix)
    if options.at and not name:
        raise BadSetting("produce.boundary.at", options.at, NOTHING_READ)
    if name in OVER_HTTP and not options.at.startswith(("http://", "https://")):
        raise BadSetting("produce.boundary.at", options.at, "give the address, such as https://10.0.0.5")
    if name in FILES and "://" in options.at:
        raise BadSetting("produce.boundary.at", options.at, f"{name} is read from files: give their folder")
    if name == "zeusd":
        try:
            address(options.at)
        except ValueError as error:
            raise BadSetting("produce.boundary.at", options.at, str(error)) from None
    if name in NAMED and not options.sample:
        raise BadSetting("produce.boundary.sample", "", "name the sample, such as ipmi_dcmi_power_consumption_watts")


def meter_of(options: BoundaryConfig, environment: Environment) -> NodeMeter | None:
    """Return the meter of the configured source, None where there is none. Nothing is read. Raises BadSetting."""
    source = source_of(options, environment)
    if source is None:
        return None
    device = device_of(environment.node, source.hardware)
    topics.check_name("node", device.gpu_uuid)
    subject = f"{'host' if source.hardware == HOST else 'wall'} of {environment.node}: {source.name}"
    if source.watts is not None:
        period_ms = round(1000 * options.every_s) if source.is_slow else 0
        watts = _logged_once(source.watts, lambda value: f"{subject}, {value:g} W")
        return WattsMeter(source.name, device, _reader(watts, source, options, environment), period_ms)
    assert source.counters is not None
    boot = boot_id() or f"since-{environment.clock.wall_ms()}"
    counters = _logged_once(source.counters.read, lambda reading: f"{subject}, {_zones_of(reading)}")
    reader = _reader(counters, source, options, environment)
    max_zone_w = options.max_zone_w or (MAX_NODE_W if source.name == "pm_counters" else MAX_ZONE_W)
    return CounterMeter(source.name, device, reader, boot, max_zone_w)


def open_meter(environment: Environment) -> NodeMeter | None:
    """Return the configured meter of this node, None where there is none.

    Raises BadSetting, and Unavailable where another agent of the machine has it: both would charge the same energy.
    """
    meter = meter_of(load(BoundaryConfig), environment)
    if meter is not None:
        path = environment.settings.data / "spool" / "boundary.lock"
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = environment.resources.enter_context(path.open("w"))
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            hint = "Only one agent of a node may: configure [produce.boundary] for that one."
            raise Unavailable(f"Another agent reads this node's energy: it has {path}", hint) from None
        except OSError as error:
            raise Unavailable(f"{path} cannot be locked: {error}", "Is `data` writable?") from None
    return meter


def check(options: BoundaryConfig, environment: Environment) -> Iterator[Finding]:
    """Yield what is read of the node, or why it cannot be read."""
    source = source_of(options, environment)
    if source is None:
        if options.model_fields_set:
            yield "", NotHere("[produce.boundary]: neither `host` nor `wall` is set", "Nothing is read.")
        return
    part = "host" if source.hardware == HOST else "wall, less its GPUs"
    try:
        if source.watts is not None:
            watts = source.watts()
            if watts <= 0:
                hint = f"Is {source.place} of this node, and does its sensor measure?"
                raise Unavailable(f"{part}: {source.name} shows {watts:g} W, which no node that runs draws", hint)
            yield source.place, f"{part}: {source.name}, {watts:g} W"
        elif source.counters is not None:
            reading = source.counters.read()
            if reading.zones.counters_uj:
                yield source.place, f"{part}: {source.name}, {_zones_of(reading)}"
            for zone, reason in reading.zones.failures.items():
                yield zone, WattlogError(at_place(zone, reason))
    except WattlogError as error:
        yield source.place, error


def _zones_of(reading: CounterReading) -> str:
    return ", ".join(sorted(reading.zones.counters_uj)) or "no zone"


def _logged_once(read: Callable[[], Value], sentence: Callable[[Value], str]) -> Callable[[], Value]:
    """Return a read that logs a sentence when it first succeeds: so an agent's log says what of its node it reads."""
    is_logged = False

    def logged_read() -> Value:
        nonlocal is_logged
        value = read()
        if not is_logged:
            is_logged = True
            log.info("%s", sentence(value))
        return value

    return logged_read


def _reader(
    read: Callable[[], Value], source: NodeSource, options: BoundaryConfig, environment: Environment
) -> Reader[Value]:
    if not source.is_slow:
        return DirectReader(read)
    reader = BackgroundReader(read, f"boundary {source.name}", options.every_s)
    environment.resources.callback(reader.close)
    return reader


def _watts(options: BoundaryConfig, get: Get) -> Callable[[], float]:
    if options.wall == "redfish":
        return Redfish(options.at, options.chassis, get).watts
    if options.wall == "json":
        return partial(json_watts, options.at, options.sample, options.unit, get)
    return partial(page_watts, options.at, Quantity(options.sample, options.unit), options.labels, get)


def _get(options: BoundaryConfig, environment: Environment) -> Get:
    from producers.common.http_client import Pages  # Other agents need no HTTP client.

    headers = {}
    if options.user:
        password = options.password.get_secret_value() if options.password else ""
        token = base64.b64encode(f"{options.user}:{password}".encode()).decode()
        headers["Authorization"] = f"Basic {token}"
    verify: ssl.SSLContext | bool = True
    if options.ca:
        try:
            verify = ssl.create_default_context(cafile=options.ca)
        except OSError as error:
            raise BadSetting("produce.boundary.ca", options.ca, f"it cannot be used: {error}") from None
        verify.check_hostname = False  # A BMC's own certificate seldom names its address. The file says whom to trust.
    bearer = options.bearer.get_secret_value() if options.bearer else ""
    pages = environment.resources.enter_context(Pages(bearer=bearer, verify=verify))

    def get(url: str) -> tuple[int, str]:
        status, text = pages.answer("GET", url, headers=headers)
        if status in REFUSED:
            whom, hint = _identity(options)
            raise Unavailable(f"{url} answers {status}: it refuses {whom}", hint, reason="forbidden")
        return status, text

    return get


def _identity(options: BoundaryConfig) -> tuple[str, str]:
    """Return who asks a source, never with a secret, and what to do where it refuses that."""
    if options.user and options.password:
        return f"user {options.user!r}", "Check `password` (WATTLOG_BOUNDARY_PASSWORD) and that user's rights."
    if options.user:
        return f"user {options.user!r} without a password", "Give `password` (WATTLOG_BOUNDARY_PASSWORD)."
    if options.bearer:
        return "the token", "Check `bearer` (WATTLOG_BOUNDARY_BEARER)."
    return "a request without a user", "Give `user` and `password` (WATTLOG_BOUNDARY_PASSWORD), or `bearer`."


def _opener(name: str, place: str, options: BoundaryConfig, environment: Environment) -> Callable[[], HostCounters]:
    if name == "rapl":
        return partial(RaplCounters, Path(place))
    if name == "pm_counters":
        return partial(PmCounters, Path(place))
    from producers.common.zeusd_client import ZeusdClient, connect
    from producers.host.zeusd import ZeusdHostCounters

    bearer = options.bearer.get_secret_value() if options.bearer else ""
    zeusd = ZeusdClient(place, environment.resources.enter_context(connect(place, bearer)))
    return partial(ZeusdHostCounters, zeusd, POWERCAP)


PLUGIN = Plugin(
    "boundary", Kind.SHARED, "energy of an agent's node beside its GPUs: its host's, or the wall's less the GPUs'",
    lambda options, environment: None, BoundaryConfig, check,
)  # fmt: skip
