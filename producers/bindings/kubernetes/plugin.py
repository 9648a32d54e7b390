"""Binding source `kubernetes`: the kubelet's pod resources and the labels of pods."""

from __future__ import annotations

from producers.api import BindingSource, Environment, Kind, Plugin
from producers.bindings.config import BindingsConfig
from producers.bindings.kubernetes.kubelet import KubeletPodResources
from producers.bindings.kubernetes.pods import NAME, KubernetesBindings


def build(options: BindingsConfig, environment: Environment) -> BindingSource:
    """Build the source of the configured kubelet and API server."""
    from producers.bindings.kubernetes.api_server import ApiServer  # httpx, which other agents need not load

    return KubernetesBindings(
        KubeletPodResources(options.kubelet, options.resources),
        ApiServer(options.api, environment.node, options.token, options.ca),
        options.labels, keep_ms=round(1000 * options.keep_s), tenant_from=options.tenant_from,
    )  # fmt: skip


PLUGIN = Plugin(NAME, Kind.BINDING, "pods: the kubelet's pod resources and the pods' labels", build, BindingsConfig)
