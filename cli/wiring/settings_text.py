"""Text of the settings file that `wattlog init` writes. Pure: findings in, TOML out."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence

from cli.wiring.machine import NVML, GpuSource, Machine, ServedModel, backend_of, served_models

CALLBACK_FOLDER = ".wattlog/litellm"
"""Folder, under the one of the settings file, that LiteLLM's callback writes to."""


def settings_text(machine: Machine, *, cluster: str, tenant: str, folder: str) -> str:
    """Return a commented wattlog.toml. `tenant` pays where no gateway names one; `folder` is the file's own."""
    served = served_models(machine.servers)
    parts = (
        _head(machine, served, cluster, tenant),
        _sensor(machine.sensor),
        _bindings(served),
        _servers(machine, served, tenant),
        _gateway(machine, served, folder),
        _elsewhere(),
    )
    return "\n".join(line for part in parts for line in part)


def _head(machine: Machine, served: Sequence[ServedModel], cluster: str, tenant: str) -> Iterator[str]:
    yield "# Settings of Wattlog. `wattlog config` lists all of them, `wattlog doctor` checks what they lead to."
    yield f"cluster = {_text(cluster)}"
    if len(served) < 2:
        name = served[0].workload if served else ""
        remark = "what this machine's GPUs work on" if served else "name it once a server runs; empty: unallocated"
        yield f"workload = {_text(name)}    # {remark}"
        yield f"owner = {_text(tenant)}    # the tenant that pays while they are idle"
    if machine.gateway is None and not served:
        yield "# No server was seen. Give its address: wattlog init --force http://127.0.0.1:8000/metrics"
    yield ""


def _sensor(sensor: GpuSource | None) -> Iterator[str]:
    if sensor is None:
        yield "# No GPU was seen here. `wattlog up` looks for NVIDIA GPUs again and again, through the driver."
        yield "# Of another maker, or through an exporter:"
        yield "# [produce.exporter]"
        yield '# url = "http://127.0.0.1:9400/metrics"'
        yield '# kind = "dcgm"'
    elif sensor.sensor == NVML:
        hardware = f": {', '.join(sensor.hardware)}" if sensor.hardware else ""
        yield f"# GPU energy comes from the driver (NVML), without settings{hardware}."
    else:
        yield "[produce.exporter]    # GPU energy, from an exporter's page"
        yield f"url = {_text(sensor.url)}"
        yield f"kind = {_text(sensor.sensor)}"
    yield ""


def _bindings(served: Sequence[ServedModel]) -> Iterator[str]:
    if len(served) < 2:
        return
    yield "[produce.bindings]    # which server has which GPU: by the processes that compute on it"
    yield 'source = ["processes"]'
    models = [(server.page.models[0] if server.page.models else server.workload, server) for server in served]
    for model, server in sorted(models, key=lambda pair: -len(pair[0])):  # `chat-large` before `chat`, which is in it.
        yield ""
        yield "[[produce.bindings.rules]]    # or `user`, `container`, `cgroup`, where a server renames its processes"
        yield f"command = {_text(f'*{model}*')}"
        yield f"workload = {_text(server.workload)}"
    yield ""


def _servers(machine: Machine, served: Sequence[ServedModel], tenant: str) -> Iterator[str]:
    if not served:
        return
    behind = _behind(machine, served)
    yield "[produce.servers]    # tokens, from the servers' own counters"
    yield f"tenant = {_text(tenant)}    # who pays for them: a server names no tenant"
    for server in served:
        yield ""
        yield "[[produce.servers.at]]"
        yield f"url = {_text(server.page.url)}"
        yield f"server = {_text(server.page.server)}"
        yield f"workload = {_text(server.workload)}"
        if server.workload in behind:
            yield 'count = "compare"    # the gateway reports its requests: here they only check that report'
    yield ""


def _gateway(machine: Machine, served: Sequence[ServedModel], folder: str) -> Iterator[str]:
    if machine.gateway is None:
        return
    yield "[produce.litellm]    # requests with their tenants, from LiteLLM's callback"
    yield f"folder = {_text(f'{folder}/{CALLBACK_FOLDER}')}"
    names = Counter(model.name for model in machine.gateway.models)
    for model in machine.gateway.models:
        backend, is_shared = backend_of(model, served), names[model.name] > 1
        yield ""
        if backend is None or (is_shared and not model.api_base):
            yield f"# {_comment(model.name)}: of no server here. A provider's needs no rule; a server of yours does."
            continue
        yield f"[[produce.litellm.deployments]]    # {_comment(model.name)}"
        yield f"route = {_text(_pattern(model.name))}"
        if is_shared:  # Other entries of this name go elsewhere.
            yield f"api_base = {_text(_pattern(model.api_base.rstrip('/')) + '*')}"
        yield f"workload = {_text(backend.workload)}"
    yield ""


def _elsewhere() -> Iterator[str]:
    yield "# Kafka and ClickHouse, once there is more than one machine. Then `wattlog up` runs on them."
    yield '# kafka_bootstrap = "kafka:9092"'
    yield '# warehouse_dsn = "http://wattlog@clickhouse:8123/wattlog"'
    yield ""


def _behind(machine: Machine, served: Sequence[ServedModel]) -> set[str]:
    """Return the workloads that the gateway sends requests to."""
    models = machine.gateway.models if machine.gateway else ()
    backends = (backend_of(model, served) for model in models)
    return {backend.workload for backend in backends if backend is not None}


def _text(value: str) -> str:
    """Return a TOML string. JSON's escapes are TOML's, but for U+007F, which TOML does not take as it is."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")


def _pattern(value: str) -> str:
    """Return a pattern of exactly this text. A `*` stays: LiteLLM's names of routes have it in the same sense."""
    return value.replace("[", "[[]").replace("?", "[?]")


def _comment(value: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in value)[:100]
