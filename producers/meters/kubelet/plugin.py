"""`wattlog produce kubelet`: CPU, memory, storage and network of a node's pods, from its kubelet."""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping, Sequence

from contracts.errors import BadSetting, Unavailable
from producers.api import Environment, Finding, Kind, Plugin, PolledSource
from producers.common.http_client import Pages
from producers.meters.kubelet import stats_summary
from producers.meters.kubelet.config import KubeletConfig
from producers.meters.observations import ObservedSource, describe_observation


def kubelet_source(options: KubeletConfig, environment: Environment) -> ObservedSource:
    """Build the source of the node's kubelet. Raises BadSetting where none is named."""
    if not options.url:
        raise BadSetting("produce.kubelet.url", "", "say where the kubelet is, such as https://NODE:10250")
    url, pages = options.url.rstrip("/"), environment.resources.enter_context(_pages(options))
    kubelet = stats_summary.KubeletReader(
        options.rules, lambda: pages.text(f"{url}/stats/summary", _token(options)), url
    )
    cluster, every_ms = environment.settings.cluster, round(1000 * options.every_s)
    return ObservedSource(stats_summary.KIND, url, cluster, environment.node, every_ms, kubelet.observe)


def _token(options: KubeletConfig) -> Mapping[str, str]:
    """Read the token again at each request: a service account's token is renewed in place."""
    if options.token_file is None or not options.url.startswith("https://"):
        return {}
    try:
        return {"Authorization": f"Bearer {options.token_file.read_text('ascii').strip()}"}
    except OSError as error:
        hint = "Mount a service account's token, or set `token_file`."
        raise Unavailable(f"{options.token_file} cannot be read: {error.strerror}", hint, lasting=True) from error


def _pages(options: KubeletConfig) -> Pages:
    if options.ca_file is None:
        return Pages()
    try:
        return Pages(verify=ssl.create_default_context(cafile=str(options.ca_file)))
    except (OSError, ssl.SSLError) as error:
        raise BadSetting("produce.kubelet.ca_file", str(options.ca_file), f"cannot be read: {error}") from None


def build(options: KubeletConfig, environment: Environment) -> Sequence[PolledSource]:
    """Build the source of the node's kubelet."""
    return [kubelet_source(options, environment)]


def check(options: KubeletConfig, environment: Environment) -> Iterator[Finding]:
    """Yield how many pods the kubelet shows."""
    if options.url:
        yield describe_observation(kubelet_source(options, environment), environment.clock)


PLUGIN = Plugin(
    "kubelet", Kind.POLLED, "CPU, memory, storage and network of a node's pods, from its kubelet", build,
    KubeletConfig, check,
)  # fmt: skip
