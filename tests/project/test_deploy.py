"""docker-compose.yml, the Dockerfile and k8s/ keep the stated limits on safety, health and versions."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml

from cli.reconcile import DIFFERS
from producers.bindings.config import BindingsConfig
from producers.servers.config import ServersConfig
from tests.project.tree import ROOT, files
from tests.support.waiting import HANG_S

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = ["migrate", "worker", "api", "producers", "ingest"]
OBJECTS: list[dict[str, Any]] = [
    document for room in ("base", "agents") for path in sorted((ROOT / "k8s" / room).glob("*.yaml"))
    if path.name != "kustomization.yaml" for document in yaml.safe_load_all(path.read_text("utf-8"))
]  # fmt: skip


def _template_of(document: dict[str, Any]) -> dict[str, Any] | None:
    """The pods' template of an object; a CronJob's is in its jobs' template."""
    spec = document.get("spec", {})
    return spec.get("jobTemplate", {}).get("spec", spec).get("template")


PODS = {document["metadata"]["name"]: template["spec"] for document in OBJECTS if (template := _template_of(document))}


def _answers(*command: str) -> bool:
    if shutil.which(command[0]) is None:
        return False
    return subprocess.run(command, capture_output=True, timeout=HANG_S, check=False).returncode == 0


def _run(*command: str, cwd: Path = ROOT) -> str:
    process = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=HANG_S, check=False)
    assert process.returncode == 0, process.stderr
    return process.stdout


# docker-compose.yml


def test_clickhouse_is_of_a_version_whose_row_policies_hold() -> None:
    image = SERVICES["clickhouse"]["image"]
    version = re.fullmatch(r"clickhouse/clickhouse-server:(\d+(?:\.\d+){3})(@sha256:[0-9a-f]{64})?", image)
    assert version, f"{image}: name the whole version, not a series"
    assert tuple(map(int, version[1].split("."))) >= (26, 3, 22, 6)


def test_the_engine_of_the_tests_is_named_beside_the_servers() -> None:
    chdb, engine = metadata.version("chdb"), chdb_engine_version()
    text = (ROOT / "docker-compose.yml").read_text("utf-8")
    assert f"chdb {chdb}: ClickHouse {engine}" in text
    assert tuple(map(int, engine.split("."))) >= (26, 3, 22, 6)


def chdb_engine_version() -> str:
    """Version of ClickHouse in chdb, asked in a process of its own: a process may open one folder."""
    question = "import chdb; print(chdb.query('SELECT version()', 'TabSeparatedRaw'))"
    return _run(sys.executable, "-c", question).strip()


def test_docker_compose_accepts_the_file() -> None:
    if not _answers("docker", "compose", "version"):
        pytest.skip("needs the docker client with its compose plug-in")
    _run("docker", "compose", "config", "--quiet")


def test_ports_are_open_on_loopback_only() -> None:
    assert {port.split(":")[0] for s in SERVICES.values() for port in s.get("ports", [])} == {"127.0.0.1"}


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_has_limits_and_gains_no_privilege(name: str) -> None:
    service = SERVICES[name]
    assert {"cpus", "memory"} <= service["deploy"]["resources"]["limits"].keys()
    assert "no-new-privileges:true" in service["security_opt"]
    assert not service.get("privileged")


@pytest.mark.parametrize("name", OURS)
def test_the_projects_services_run_without_privileges(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["user"] == "10001:10001"


def test_a_service_starts_after_its_dependencies() -> None:
    assert {k: v["condition"] for k, v in SERVICES["migrate"]["depends_on"].items()} == {
        "kafka": "service_healthy",
        "clickhouse": "service_healthy",
    }
    for name in ("worker", "api", "producers", "ingest"):
        assert SERVICES[name]["depends_on"] == {"migrate": {"condition": "service_completed_successfully"}}


def test_no_secret_of_compose_has_a_default() -> None:
    for name, service in SERVICES.items():
        for variable, value in service.get("environment", {}).items():
            if re.search("PASSWORD|KEY$|SECRET", variable):
                assert value is None, f"{name}: {variable}"
    example = (ROOT / ".env.example").read_text("utf-8")
    assert not re.search(r"^#?\w*(PASSWORD|KEY|SECRET)=.", example, re.M)


def test_the_first_start_makes_secrets_and_the_next_keeps_them(tmp_path: Path) -> None:
    service = SERVICES["secrets"]
    [script] = (text.replace("$$", "$") for text in service["command"])
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "python").symlink_to(sys.executable)
    (tools / "wattlog").write_text(f'#!/bin/sh\nexec {sys.executable} -c "from cli.main import main; main()" "$@"\n')
    (tools / "wattlog").chmod(0o755)
    data = tmp_path / "data"
    data.mkdir()
    variables = {"PATH": f"{tools}:/usr/bin:/bin", "PYTHONPATH": str(ROOT), "WATTLOG_DATA": str(data),
                 "WATTLOG_KEYS_FILE": str(data / "keys.json")}  # fmt: skip

    def start() -> dict[str, str]:
        subprocess.run(["sh", "-ec", script], env=variables, check=True, timeout=HANG_S, capture_output=True)
        return {name: (data / name).read_text("utf-8") for name in ("clickhouse", "admin.key", "gateway.key")}

    first = start()
    assert len(set(first.values())) == 3
    assert first["admin.key"].startswith("wl_")
    assert len(first["clickhouse"]) >= 43
    assert start() == first
    assert {path.stat().st_mode & 0o077 for path in data.iterdir()} == {0}
    variables["CLICKHOUSE_PASSWORD"] = "of my own"
    assert start() == first | {"clickhouse": "of my own"}


def test_the_compose_file_runs_the_tested_kafka() -> None:
    pom = (ROOT / "tests" / "kafka" / "pom.xml").read_text("utf-8")
    version = re.search(r"<kafka.version>(.+)</kafka.version>", pom)
    assert version is not None
    assert SERVICES["kafka"]["image"] == f"apache/kafka:{version[1]}"


def test_foreign_images_have_a_fixed_version() -> None:
    images = [s["image"] for s in SERVICES.values() if not s["image"].endswith(":local")]
    assert all(re.search(r":\d+\.\d+", image) for image in images)


# Dockerfile


def test_images_run_without_root_and_have_a_health_check() -> None:
    text = (ROOT / "Dockerfile").read_text("utf-8")
    stages = dict(re.findall(r"^FROM .+? AS (\S+)\n(.*?)(?=^FROM|\Z)", text, re.M | re.S))
    assert "USER 10001:10001" in stages["run"]
    for target in ("agent", "server"):
        assert "HEALTHCHECK" in stages[target]
        assert "USER" not in stages[target]
    for target in ("agent", "server"):
        assert f"pip install --require-hashes -r pins/{target}.txt" in stages[f"build-{target}"]
    assert not [
        line for line in re.findall(r"pip install.*", text) if not re.search("--require-hashes|--no-index", line)
    ]
    assert not re.search(r"^(ARG|ENV).*(PASSWORD|KEY|SECRET|TOKEN)", text, re.M)


def test_dockerignore_lets_through_what_an_image_copies() -> None:
    """.dockerignore lets in only what it names: every room must be among it."""
    through = {line[1:] for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line.startswith("!")}
    rooms = set(
        re.search(r"packages = \[(.+?)\]", (ROOT / "pyproject.toml").read_text("utf-8"))[1].replace('"', "").split(", ")
    )
    assert rooms | {"pyproject.toml", "pins", "README.md", "LICENSE"} == through


# k8s/


@pytest.mark.parametrize("pod", PODS)
def test_a_pod_meets_the_restricted_standard(pod: str) -> None:
    """Except for the agent's access to its node, which the next test checks."""
    spec = PODS[pod]
    assert spec["securityContext"]["runAsNonRoot"] is (pod != "agent")
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
    assert pod == "agent" or not any("hostPath" in volume for volume in spec["volumes"])
    for container in spec["containers"]:
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["readOnlyRootFilesystem"] is True
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert "memory" in container["resources"]["limits"]
        assert {"cpu", "memory"} <= container["resources"]["requests"].keys()


def test_an_agent_mounts_only_the_kubelets_socket_and_cannot_write_beside_it() -> None:
    agent = PODS["agent"]
    paths = [volume["hostPath"] for volume in agent["volumes"] if "hostPath" in volume]
    assert paths == [{"path": "/var/lib/kubelet/pod-resources", "type": "Directory"}]
    (mount,) = [m for m in agent["containers"][0]["volumeMounts"] if m["name"] == "pod-resources"]
    assert mount["readOnly"] is True
    (kubelet,) = {BindingsConfig.model_fields["kubelet"].default.parent}
    assert mount["mountPath"] == str(kubelet)


def test_an_agent_may_only_list_pods_and_is_the_only_one_with_a_token() -> None:
    assert [document["rules"] for document in OBJECTS if document["kind"].endswith("Role")] == [
        [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}]
    ]
    (binding,) = [document for document in OBJECTS if document["kind"].endswith("RoleBinding")]
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "agent", "namespace": "wattlog-agents"}]
    tokens = {
        name: source["serviceAccountToken"]["expirationSeconds"]
        for name, spec in PODS.items() for volume in spec["volumes"]
        for source in volume.get("projected", {}).get("sources", []) if "serviceAccountToken" in source
    }  # fmt: skip
    assert tokens == {"agent": 3600}
    assert {name: spec.get("serviceAccountName") for name, spec in PODS.items() if "serviceAccountName" in spec} == {
        "agent": "agent"
    }
    (mount,) = [m for m in PODS["agent"]["containers"][0]["volumeMounts"] if m["name"] == "api-token"]
    assert mount["mountPath"] == str(BindingsConfig.model_fields["token"].default.parent)


@pytest.mark.parametrize("pod", PODS)
def test_a_pod_sees_only_its_own_secrets(pod: str) -> None:
    container = PODS[pod]["containers"][0]
    references = [e["valueFrom"]["secretKeyRef"] for e in container["env"] if "secretKeyRef" in e.get("valueFrom", {})]
    assert {f"{r['name']}/{r['key']}" for r in references} == {
        "agent": {"kafka-agent/password"},
        "worker": {"kafka-worker/password", "wattlog/warehouse-password"},
        "migrate": {"kafka-migrate/password", "wattlog/warehouse-password"},
        "api": {"wattlog/warehouse-password", "wattlog/api-jwt-key"},
        "reconcile": {"wattlog/warehouse-password"},
        "ingest": {"kafka-ingest/password", "wattlog/ingest-jwt-key"},
    }[pod]


def test_host_energy_reads_one_folder_of_the_node_and_has_no_capability() -> None:
    objects = list(yaml.safe_load_all((ROOT / "k8s" / "host-energy" / "host.yaml").read_text("utf-8")))
    [spec] = [document["spec"]["template"]["spec"] for document in objects if document["kind"] == "DaemonSet"]
    [container] = spec["containers"]
    assert [v["hostPath"]["path"] for v in spec["volumes"] if "hostPath" in v] == ["/sys/devices/virtual/powercap"]
    [mount] = [m for m in container["volumeMounts"] if m["name"] == "powercap"]
    assert mount["readOnly"] is True
    assert {"name": "WATTLOG_HOST_POWERCAP", "value": mount["mountPath"]} in container["env"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}
    }  # fmt: skip
    assert spec["automountServiceAccountToken"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()


def test_the_producer_of_servers_reads_pods_and_services_only_and_meets_the_restricted_standard() -> None:
    folder = ROOT / "k8s" / "servers"
    objects = list(yaml.safe_load_all((folder / "servers.yaml").read_text("utf-8")))
    assert [document["rules"] for document in objects if document["kind"].endswith("Role")] == [
        [
            {"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"]},
            {"apiGroups": [""], "resources": ["services"], "verbs": ["get"]},
        ]
    ]
    [stateful] = [document["spec"] for document in objects if document["kind"] == "StatefulSet"]
    assert stateful["replicas"] == 1
    spec = stateful["template"]["spec"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["automountServiceAccountToken"] is False
    [container] = spec["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}
    }  # fmt: skip
    [mount] = [m for m in container["volumeMounts"] if m["name"] == "api-token"]
    assert mount["mountPath"] == str(BindingsConfig.model_fields["token"].default.parent)
    options = tomllib.loads((folder / "wattlog.toml").read_text("utf-8"))["produce"]["servers"]
    assert [pods.port for pods in ServersConfig(**options).pods] == [8000]


def test_serving_pods_have_probes() -> None:
    api = PODS["api"]["containers"][0]
    assert api["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert api["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert all("livenessProbe" in PODS[name]["containers"][0] for name in ("agent", "worker", "api", "ingest"))


def test_a_worker_has_time_to_store_final_windows() -> None:
    assert PODS["worker"]["terminationGracePeriodSeconds"] >= 60


def test_sources_are_compared_every_hour_and_a_difference_fails_no_job() -> None:
    (cron,) = [document["spec"] for document in OBJECTS if document["kind"] == "CronJob"]
    assert (cron["schedule"].split()[1:], cron["concurrencyPolicy"]) == (["*"] * 4, "Forbid")
    (container,) = PODS["reconcile"]["containers"]
    shell, flag, script = container["command"]
    assert "wattlog reconcile" in script
    for status, expected in ((0, 0), (DIFFERS, 0), (2, 1)):
        ran = subprocess.run([shell, flag, script.replace("wattlog reconcile", f"(exit {status})")], check=False)
        assert ran.returncode == expected


def test_agents_run_on_gpu_nodes_with_the_nvidia_runtime_and_the_nodes_name() -> None:
    agent = PODS["agent"]
    assert agent["runtimeClassName"] == "nvidia"
    assert agent["nodeSelector"] == {"nvidia.com/gpu.present": "true"}
    names = {e["name"]: e.get("valueFrom") for e in agent["containers"][0]["env"]}
    assert names["WATTLOG_NODE"] == {"fieldRef": {"fieldPath": "spec.nodeName"}}


def test_the_base_contains_no_secret() -> None:
    assert not [document for document in OBJECTS if document["kind"] == "Secret"]
    assert not [path for path in files() if path.name in (".env", "secret.env") or path.parent.name == "secrets"]
