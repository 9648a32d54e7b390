"""k8s/: each role has a Kafka user, a namespace that enforces what it can, and a network of what it needs."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from contracts import topics
from contracts.settings import Settings
from streams.consumer_group import usage_group
from tests.project.tree import ROOT
from tests.support.kafka_acls import SCRIPT, kafka_acls, topics_of
from tests.support.waiting import HANG_S

FOLDERS = {"base": "wattlog", "agents": "wattlog-agents", "host-energy": "wattlog-host", "servers": "wattlog-servers"}
"""Namespace of each folder."""
WRITERS = {
    "wattlog-agent": {topics.POWER, topics.USAGE},
    "wattlog-host": {topics.USAGE},
    "wattlog-servers": {topics.TOKENS, topics.USAGE},
    "wattlog-ingest": {topics.TOKENS, topics.USAGE},
    "wattlog-worker": {topics.ALERTS, topics.DEADLETTER},
    "wattlog-migrate": set(),
}
Reach = set[tuple[str, int]]
DNS: Reach = {("kube-system/kube-dns", 53), ("169.254.20.10/32", 53)}
KAFKA: Reach = {("kafka", 9092), ("kafka", 9093)}
CLICKHOUSE: Reach = {("clickhouse", 8123), ("clickhouse", 8443)}
API_SERVER: Reach = {("anywhere", 443), ("anywhere", 6443)}
EGRESS: dict[tuple[str, str], Reach] = {
    ("base", "worker"): DNS | KAFKA | CLICKHOUSE,
    ("base", "migrate"): DNS | KAFKA | CLICKHOUSE,
    ("base", "ingest"): DNS | KAFKA,
    ("base", "api"): DNS | CLICKHOUSE,
    ("base", "reconcile"): DNS | CLICKHOUSE,
    ("agents", "agent"): DNS | KAFKA | API_SERVER,
    ("host-energy", "host"): DNS | KAFKA,
    ("servers", "servers"): DNS | KAFKA | API_SERVER | {("any pod", 8000)},
}
INGRESS = {("base", "api"): {("wattlog.dev/may-ask", 8787)}, ("base", "ingest"): {("wattlog.dev/may-send", 8788)}}
TLS_PODS = {"agent", "ingest", "worker", "migrate"}


def _objects(folder: str) -> list[dict[str, Any]]:
    paths = [p for p in sorted((ROOT / "k8s" / folder).glob("*.yaml")) if p.name != "kustomization.yaml"]
    return [document for path in paths for document in yaml.safe_load_all(path.read_text("utf-8"))]


def _templates(objects: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Templates of pods by their component; a CronJob's is in its jobs' template."""
    specs = [document.get("spec", {}) for document in objects]
    templates = [spec.get("jobTemplate", {}).get("spec", spec).get("template") for spec in specs]
    return {t["metadata"]["labels"]["app.kubernetes.io/component"]: t for t in templates if t}


PODS = {(folder, name): pod for folder in FOLDERS for name, pod in _templates(_objects(folder)).items()}


def _variables(pod: dict[str, Any]) -> dict[str, Any]:
    (container,) = pod["spec"]["containers"]
    return {e["name"]: e for e in container.get("env", [])}


# Users of Kafka


def test_each_user_of_kafka_writes_the_topics_of_its_role_only() -> None:
    assert {a.user for a in kafka_acls()} == WRITERS.keys()
    assert {user: topics_of(user, "Write") for user in WRITERS} == WRITERS


def test_only_workers_read_and_producers_their_notices() -> None:
    reads = {a for a in kafka_acls() if a.operation == "Read"}
    notices = {a.user for a in reads if a.name == topics.ALERTS}
    assert notices == WRITERS.keys() - {"wattlog-worker", "wattlog-migrate"}
    reads = {a for a in reads if a.name != topics.ALERTS}
    assert {a.user for a in reads} == {"wattlog-worker"}
    assert {a.name for a in reads if a.resource == "topic"} == {*topics.JOINED, topics.USAGE}
    settings = Settings()
    assert {a.name for a in reads if a.resource == "group"} == {settings.kafka_group, usage_group(settings)}


def test_only_migrate_creates_topics_and_it_sees_all_of_them() -> None:
    others = {(a.user, a.operation, a.name) for a in kafka_acls() if a.operation not in ("Read", "Write")}
    assert others == {("wattlog-migrate", operation, t) for operation in ("Create", "Describe") for t in topics.ALL}


def test_the_script_hands_each_permission_to_kafkas_own_tool(tmp_path: Path) -> None:
    tool, calls = tmp_path / "tool", tmp_path / "calls"
    tool.write_text(f'#!/bin/sh\necho "$@" >> {calls}\n')
    tool.chmod(0o755)
    subprocess.run(["sh", SCRIPT, "k:9093", "admin"], env={"KAFKA_ACLS": str(tool)}, timeout=HANG_S, check=True)
    lines = calls.read_text().splitlines()
    assert all(line.startswith("--bootstrap-server k:9093 --command-config admin --add ") for line in lines)
    assert [re.findall(r"User:(\S+)", line)[0] for line in lines] == [
        line.split()[1] for line in SCRIPT.read_text().splitlines() if line.startswith("allow ")
    ]


def test_each_role_has_a_kafka_user_and_a_password_of_its_own() -> None:
    users, secrets = {}, []
    for (_, name), pod in PODS.items():
        variables = _variables(pod)
        if "WATTLOG_KAFKA_USERNAME" in variables:
            users[name] = variables["WATTLOG_KAFKA_USERNAME"]["value"]
            secrets.append(variables["WATTLOG_KAFKA_PASSWORD"]["valueFrom"]["secretKeyRef"]["name"])
    assert users == {user.removeprefix("wattlog-"): user for user in WRITERS}
    assert sorted(secrets) == sorted(f"kafka-{name}" for name in users)


def test_the_page_about_access_has_the_scripts_permissions() -> None:
    text = (ROOT / "docs" / "kafka-access.md").read_text("utf-8")
    rows = re.findall(r"^\| `(wattlog-\w+)` \| `(\S+)`, `(\S+)` \| (.*?)\| (.*?)\|$", text, re.M)
    assert {user: _short(topics_of(user, "Write")) for user in WRITERS} == {r[0]: _names(r[3]) for r in rows}
    assert {user: _short(topics_of(user, "Read")) for user in WRITERS} == {r[0]: _names(r[4]) for r in rows}
    places = {f"wattlog-{name}": (f"kafka-{name}", FOLDERS[folder]) for folder, name in PODS}
    assert {r[0]: (r[1], r[2]) for r in rows} == {user: places[user] for user in WRITERS}


def _short(names: set[str]) -> set[str]:
    return {name.split(".")[1] for name in names}


def _names(cell: str) -> set[str]:
    return {name.strip() for name in cell.split(",") if name.strip()}


# Namespaces


def test_a_namespace_enforces_the_restricted_standard_unless_its_pods_mount_their_node() -> None:
    for folder, namespace in FOLDERS.items():
        (labels,) = [d["metadata"]["labels"] for d in _objects(folder) if d["kind"] == "Namespace"]
        pods = [pod["spec"] for (of, _), pod in PODS.items() if of == folder]
        mounts_the_node = [any("hostPath" in volume for volume in pod["volumes"]) for pod in pods]
        assert len(set(mounts_the_node)) == 1, "what mounts its node has a namespace of its own"
        enforced = labels["pod-security.kubernetes.io/enforce"]
        assert enforced == ("privileged" if mounts_the_node[0] else "restricted")
        kustomization = yaml.safe_load((ROOT / "k8s" / folder / "kustomization.yaml").read_text("utf-8"))
        assert kustomization["namespace"] == namespace


# Networks


def _selects(policy: dict[str, Any], component: str) -> bool:
    selector = policy["podSelector"]
    assert selector.keys() <= {"matchLabels", "matchExpressions"}
    values = [e["values"] for e in selector.get("matchExpressions", [])]
    labels = [[value] for value in selector.get("matchLabels", {}).values()]
    return all(component in names for names in [*values, *labels])


def _peer(peer: dict[str, Any]) -> str:
    """Name of the other end of a rule."""
    if "ipBlock" in peer:
        return str(peer["ipBlock"]["cidr"])
    labels = peer["namespaceSelector"].get("matchLabels")
    if labels is None:
        return "any pod"
    ((name, value),) = labels.items()
    namespace = value if name == "kubernetes.io/metadata.name" else name
    return "/".join([namespace, *peer.get("podSelector", {}).get("matchLabels", {}).values()])


def _reach(objects: list[dict[str, Any]], component: str, direction: str) -> Reach:
    end = {"egress": "to", "ingress": "from"}[direction]
    policies = [d["spec"] for d in objects if d["kind"] == "NetworkPolicy" and _selects(d["spec"], component)]
    assert any({"Ingress", "Egress"} <= set(p["policyTypes"]) for p in policies), "nothing is denied"
    return {
        (name, port["port"])
        for policy in policies
        for rule in policy.get(direction, [])
        for name in ([_peer(peer) for peer in rule[end]] if end in rule else ["anywhere"])
        for port in rule["ports"]
    }


@pytest.mark.parametrize(("folder", "component"), PODS)
def test_a_pod_reaches_only_what_it_needs(folder: str, component: str) -> None:
    objects = _objects(folder)
    assert _reach(objects, component, "egress") == EGRESS[folder, component]
    assert _reach(objects, component, "ingress") == INGRESS.get((folder, component), set())


def test_a_pod_reaches_kafka_and_clickhouse_exactly_if_it_has_their_password() -> None:
    for (folder, component), pod in PODS.items():
        reach, variables = EGRESS[folder, component], _variables(pod)
        assert (reach >= KAFKA) is ("WATTLOG_KAFKA_PASSWORD" in variables)
        assert (reach >= CLICKHOUSE) is ("WATTLOG_WAREHOUSE_PASSWORD" in variables)


# Memory


def test_a_worker_may_take_the_memory_that_its_documents_state() -> None:
    text = (ROOT / "docs" / "reliability.md").read_text("utf-8")
    formula = re.search(r"(\d+) MB \+ ([\d.]+) kB x max_open_rows \+ ([\d.]+) kB x names", text)
    assert formula is not None
    fixed_mb, row_kb, name_kb = map(float, formula.groups())
    bound_mb = fixed_mb + (row_kb * Settings().max_open_rows + name_kb * 1_000_000) / 1_000
    (worker,) = PODS["base", "worker"]["spec"]["containers"]
    limit = worker["resources"]["limits"]["memory"]
    assert int(limit.removesuffix("Mi")) * 1.048576 >= bound_mb


# Rendered


def _rendered(folder: Path) -> list[dict[str, Any]]:
    if shutil.which("kubectl") is None:
        pytest.skip("needs kubectl")
    process = subprocess.run(
        ["kubectl", "kustomize", folder], capture_output=True, text=True, timeout=HANG_S, check=False
    )
    assert process.returncode == 0, process.stderr
    return [document for document in yaml.safe_load_all(process.stdout) if document]


@pytest.mark.parametrize("folder", FOLDERS)
def test_kustomize_renders_a_folder_into_its_namespace(folder: str) -> None:
    rendered = _rendered(ROOT / "k8s" / folder)
    assert {d["metadata"].get("namespace", FOLDERS[folder]) for d in rendered} == {FOLDERS[folder]}


@pytest.fixture
def example(tmp_path: Path) -> list[dict[str, Any]]:
    """Objects of an overlay that was copied from the example and filled in."""
    shutil.copytree(ROOT / "k8s", tmp_path / "k8s")
    overlay = tmp_path / "k8s" / "overlays" / "example"
    shutil.copytree(overlay / "secrets.example", overlay / "secrets")
    (overlay / "kafka-ca.crt").write_text("a certificate")
    return _rendered(overlay)


def test_the_example_connects_to_kafka_by_tls_with_the_brokers_ca(example: list[dict[str, Any]]) -> None:
    maps = {(d["metadata"]["namespace"], d["metadata"]["name"]): d["data"] for d in example if d["kind"] == "ConfigMap"}
    pods = {
        d["metadata"]["name"]: d
        for d in example
        if d["metadata"]["name"] in TLS_PODS and "template" in d.get("spec", {})
    }
    assert pods.keys() == TLS_PODS
    for document in pods.values():
        namespace, spec = document["metadata"]["namespace"], document["spec"]["template"]["spec"]
        (container,) = spec["containers"]
        settings = maps[namespace, container["envFrom"][0]["configMapRef"]["name"]]
        assert settings["WATTLOG_KAFKA_SECURITY_PROTOCOL"] == "SASL_SSL"
        (mount,) = [m for m in container["volumeMounts"] if m["name"] == "kafka-ca"]
        (volume,) = [v for v in spec["volumes"] if v["name"] == "kafka-ca"]
        (file,) = maps[namespace, volume["configMap"]["name"]]
        assert settings["WATTLOG_KAFKA_CA_FILE"] == f"{mount['mountPath']}/{file}"


def test_each_secret_of_the_example_is_in_the_namespace_of_its_pod(example: list[dict[str, Any]]) -> None:
    secrets = {
        (d["metadata"]["namespace"], d["metadata"]["name"]): set(d["data"]) for d in example if d["kind"] == "Secret"
    }
    used: dict[tuple[str, str], set[str]] = {}
    for document in example:
        for pod in _templates([document]).values():
            for variable in _variables(pod).values():
                if reference := variable.get("valueFrom", {}).get("secretKeyRef"):
                    used.setdefault((document["metadata"]["namespace"], reference["name"]), set()).add(reference["key"])
    assert used == secrets


def test_the_example_reaches_kafka_by_tls_only_and_the_api_server_by_its_address(example: list[dict[str, Any]]) -> None:
    for (folder, component), reach in EGRESS.items():
        if folder in ("base", "agents"):
            objects = [d for d in example if d["metadata"].get("namespace") == FOLDERS[folder]]
            expected = {
                ("192.0.2.1/32", port) if name == "anywhere" else (name, port)
                for name, port in reach - {("kafka", 9092)}
            }
            assert _reach(objects, component, "egress") == expected
