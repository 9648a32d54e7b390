"""Pods that hold GPUs, by a kubelet on a unix socket and an API server on loopback, in good days and in bad ones."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import grpc
import msgspec
import pytest

from contracts.errors import Unavailable
from producers.bindings.claims import ClaimReport, DeviceClaim, GpuBoard, SourceAbsent, WorkloadHolder
from producers.bindings.kubernetes import podresources
from producers.bindings.kubernetes.api_server import ApiServer
from producers.bindings.kubernetes.kubelet import KubeletPodResources
from producers.bindings.kubernetes.pods import (
    LABELS_MS,
    KubernetesBindings,
    LabelledPod,
    PodDevice,
    PodLabelNames,
    claims,
    controller_name,
)
from tests.producers.bindings.kubernetes.stand_ins import TOKEN, FakeApi, FakeKubelet, api, kubelet, pod, resources
from tests.support.waiting import HANG_S

GPU = "GPU-11111111-2222-3333-4444-555555555555"
MIG = "MIG-11111111-2222-3333-4444-555555555555"
PATTERNS = ("nvidia.com/gpu*", "nvidia.com/mig-*", "gpu.nvidia.com")
LABELLED = {
    "wattlog.io/workload": "chat", "wattlog.io/tenant": "acme", "wattlog.io/team": "search",
    "wattlog.io/cost-centre": "4711", "wattlog.io/model": "llama-3.1-8b",
}  # fmt: skip
BOARDS = (GpuBoard(GPU),)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[FakeKubelet]:
    with kubelet(tmp_path / "kubelet.sock") as fake:
        yield fake


@pytest.fixture
def server() -> Iterator[FakeApi]:
    with api() as fake:
        yield fake


def listed(node: FakeKubelet, timeout_s: float = HANG_S) -> list[PodDevice]:
    return KubeletPodResources(node.socket, PATTERNS, timeout_s=timeout_s).devices()


def asks(server: FakeApi, tmp_path: Path, token: str = TOKEN, timeout_s: float = HANG_S) -> ApiServer:
    (tmp_path / "token").write_text(token + "\n")
    return ApiServer(server.url, "n1", tmp_path / "token", tmp_path / "ca.crt", timeout_s=timeout_s)


def source(node: FakeKubelet, server: FakeApi, tmp_path: Path, keep_ms: int = 300_000) -> KubernetesBindings:
    devices = KubeletPodResources(node.socket, PATTERNS, timeout_s=HANG_S)
    return KubernetesBindings(devices, asks(server, tmp_path), PodLabelNames(), keep_ms=keep_ms)


# The kubelet.


def test_the_descriptors_match_the_proto_file() -> None:
    text = Path(podresources.__file__).with_suffix(".proto").read_text("utf-8")
    messages = {
        name: tuple(
            (field, f"{repeated}{kind}", int(number))
            for repeated, kind, field, number in re.findall(r"^\s+(repeated )?(\w+) (\w+) = (\d+);", body, re.M)
        )
        for name, body in re.findall(r"^message (\w+) \{(.*?)\}", text, re.M | re.S)
    }
    assert messages == podresources.MESSAGES


def test_only_gpus_replicas_and_instances_are_listed_with_their_containers(node: FakeKubelet) -> None:
    node.answer = resources(
        ("serving", "chat-0", {"main": {"nvidia.com/gpu": [GPU]}, "sidecar": {"rdma/hca": ["mlx5_0"]}}),
        ("serving", "code-0", {"main": {"nvidia.com/gpu.shared": [f"{GPU}::3"]}}),
        ("lab", "job-1", {"train": {"nvidia.com/mig-1g.5gb": [MIG], "cpu": ["1"]}}),
        ("kube-system", "dns", {"main": {}}),
    )
    assert listed(node) == [
        PodDevice("serving", "chat-0", "main", GPU), PodDevice("serving", "code-0", "main", f"{GPU}::3"),
        PodDevice("lab", "job-1", "train", MIG),
    ]  # fmt: skip


def test_unknown_fields_of_newer_kubelets_are_skipped(node: FakeKubelet) -> None:
    """Unknown fields: a varint 99 after the known message."""
    known = resources(("serving", "chat-0", {"main": {"nvidia.com/gpu": [GPU]}})).SerializeToString()
    node.answer = podresources.ListPodResourcesResponse.FromString(known + b"\x98\x06\x01")
    assert [d.device for d in listed(node)] == [GPU]


def test_a_claim_is_known_only_by_the_uuid_of_its_cdi_device(node: FakeKubelet) -> None:
    node.answer = resources(claims=[
        {"pod": "a", "cdi": f"k8s.gpu.nvidia.com/device={GPU}"}, {"pod": "b", "cdi": "k8s.gpu.nvidia.com/claim=gpu-0"},
        {"pod": "c", "cdi": f"gpu.acme.example/card={GPU.replace('GPU', 'NPU')}"},
        {"pod": "d", "cdi": f"gpu.acme.example/claim={GPU.removeprefix('GPU-')}"},
    ])  # fmt: skip
    unknown = "gpu.nvidia.com/gpu-0"
    assert [d.device for d in listed(node)] == [GPU, unknown, GPU.replace("GPU", "NPU"), unknown]


def test_a_node_without_a_socket_has_no_kubelet(tmp_path: Path) -> None:
    with pytest.raises(SourceAbsent, match="There is no"):
        KubeletPodResources(tmp_path / "kubelet.sock", PATTERNS).devices()


def test_a_kubelet_that_hangs_times_out(node: FakeKubelet) -> None:
    node.hangs = True
    with pytest.raises(Unavailable, match="DEADLINE_EXCEEDED"):
        listed(node, timeout_s=0.3)


@pytest.mark.parametrize("code", [grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNIMPLEMENTED])
def test_a_kubelet_that_refuses_is_unavailable(node: FakeKubelet, code: grpc.StatusCode) -> None:
    node.refuses = code
    with pytest.raises(Unavailable, match=f"{code.name} not today"):
        listed(node)


@pytest.mark.parametrize("cut", [1, 20, 60])
def test_a_partial_message_from_the_kubelet_is_unavailable(node: FakeKubelet, cut: int) -> None:
    message = resources(("serving", "chat-0", {"main": {"nvidia.com/gpu": [GPU]}})).SerializeToString()
    node.raw = message[:cut]
    with pytest.raises(Unavailable, match="does not list pods' devices"):
        listed(node)


def test_a_message_beyond_the_kubelet_clients_limit_is_unavailable(node: FakeKubelet) -> None:
    node.raw = b"\x0a" + b"\x00" * (17 * 2**20)
    with pytest.raises(Unavailable, match="does not list pods' devices"):
        listed(node)


def test_a_socket_without_a_listener_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "kubelet.sock").touch()
    with pytest.raises(Unavailable, match="UNAVAILABLE"):
        KubeletPodResources(tmp_path / "kubelet.sock", PATTERNS, timeout_s=HANG_S).devices()


# The API server.


def test_pods_of_this_node_are_listed_without_their_environment(server: FakeApi, tmp_path: Path) -> None:
    server.pods = {"n1": [pod("serving", "chat-0", LABELLED, ("StatefulSet", "chat"))], "n2": [pod("lab", "x")]}
    pods = asks(server, tmp_path).pods().pods
    assert list(pods) == [("serving", "chat-0")]
    assert pods["serving", "chat-0"].metadata.labels == LABELLED
    assert "secret" not in repr(pods)


@pytest.mark.parametrize("status", [401, 403, 500])
def test_an_error_of_the_api_server_does_not_show_the_token(server: FakeApi, tmp_path: Path, status: int) -> None:
    server.status = status
    with pytest.raises(Unavailable, match=f"answers {status}.*right to list pods") as error:
        asks(server, tmp_path).pods()
    assert TOKEN not in str(error.value)


def test_a_renewed_token_is_read_again(server: FakeApi, tmp_path: Path) -> None:
    asking = asks(server, tmp_path, "an old one")
    with pytest.raises(Unavailable, match="answers 401"):
        asking.pods()
    (tmp_path / "token").write_text(TOKEN)
    assert asking.pods().pods == {}


def test_an_api_server_that_hangs_times_out(server: FakeApi, tmp_path: Path) -> None:
    server.hangs = True
    with pytest.raises(Unavailable, match="does not answer"):
        asks(server, tmp_path, timeout_s=0.3).pods()


def test_an_answer_that_is_no_list_of_pods_is_unavailable(server: FakeApi, tmp_path: Path) -> None:
    server.body = lambda body: b'{"items": [{"metadata": 3}]}'
    with pytest.raises(Unavailable, match="list of pods"):
        asks(server, tmp_path).pods()


BAD_PODS: dict[str, bytes] = {
    "no object": b"3",
    "no name": b'{"metadata": {"namespace": "s"}}',
    "a name that is no text": b'{"metadata": {"name": 3, "namespace": "s"}}',
    "labels that are no object": b'{"metadata": {"name": "x", "namespace": "s", "labels": "acme"}}',
    "wrong encoding": b'{"metadata": {"name": "\xff\xfe", "namespace": "s"}}',
    "nested too deeply": b'{"metadata": {"name": "x", "namespace": "s", "more": ' + b"[" * 400 + b"]" * 400 + b"}}",
}


@pytest.mark.parametrize("bad", BAD_PODS.values(), ids=BAD_PODS)
def test_a_malformed_pod_does_not_affect_the_others(server: FakeApi, tmp_path: Path, bad: bytes) -> None:
    server.pods = {"n1": [pod("serving", "chat-0", LABELLED), pod("serving", "code-0", LABELLED)]}
    server.body = lambda body: body.replace(b'"items": [', b'"items": [' + bad + b", ")
    pods, refused = asks(server, tmp_path).pods()
    assert {name for _, name in pods} >= {"chat-0", "code-0"}
    assert len(refused) == (3 - len(pods))


def test_a_malformed_pod_is_a_warning(server: FakeApi, node: FakeKubelet, tmp_path: Path) -> None:
    server.pods = {"n1": [pod("s", "chat-0", LABELLED)]}
    server.body = lambda body: body.replace(b'"items": [', b'"items": [{"metadata": 3}, ')
    node.answer = resources(("s", "chat-0", {"main": {"nvidia.com/gpu": [GPU]}}))
    report = source(node, server, tmp_path).read(BOARDS, 0)
    assert [c.holder.workload for c in report.claims if c.holder] == ["chat"]
    assert ["1 pods of the API server are malformed" in w.message for w in report.warnings] == [True]


@pytest.mark.parametrize(
    "body",
    [b"", b"null", b'{"items": [', b"[" * 100_000, b"\xff" * 10, b'{"items": 3}', b"<html>"],
    ids=["empty", "null", "half", "nested", "wrong encoding", "no list", "markup"],
)
def test_an_answer_that_is_cut_nested_or_garbage_is_unavailable(server: FakeApi, tmp_path: Path, body: bytes) -> None:
    server.body = lambda _: body
    with pytest.raises(Unavailable, match="list of pods"):
        asks(server, tmp_path).pods()


@pytest.mark.parametrize("token", ["two\nlines", "ümlaut", "\x00"])
def test_a_file_without_a_token_is_named_and_not_shown(server: FakeApi, tmp_path: Path, token: str) -> None:
    with pytest.raises(Unavailable, match="holds no token") as error:
        asks(server, tmp_path, token).pods()
    assert token not in str(error.value)


def test_a_missing_token_or_address_is_named(server: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(Unavailable, match="token or CA cannot be read"):
        ApiServer(server.url, "n1", tmp_path / "token", tmp_path / "ca.crt").pods()
    with pytest.raises(Unavailable, match=r"produce\.bindings\.api"):
        ApiServer("", "n1", tmp_path / "token", tmp_path / "ca.crt").pods()


# Kubelet and API server together.


def decoded(**fields: object) -> LabelledPod:
    return msgspec.convert(pod("serving", "p", **fields), LabelledPod)  # type: ignore[arg-type]


def of(*devices: str, **fields: object) -> ClaimReport:
    """Claims of a pod that has these devices."""
    pod_devices = [PodDevice("serving", "p", "main", device) for device in devices]
    return claims(pod_devices, {("serving", "p"): decoded(**fields)}, PodLabelNames())


def test_a_labelled_pod_gets_workload_and_owner_from_its_labels() -> None:
    assert of(f"{GPU}::3", labels=LABELLED) == ClaimReport(
        [
            DeviceClaim(
                GPU,
                WorkloadHolder(
                    workload="chat",
                    tenant="acme",
                    source="kubernetes",
                    namespace="serving",
                    pod="p",
                    container="main",
                    team="search",
                    cost_centre="4711",
                    model="llama-3.1-8b",
                    rule="label",
                ),
                "3",
            )
        ],
        (),
    )


@pytest.mark.parametrize(
    ("made_by", "labels", "named"),
    [
        (("ReplicaSet", "chat-7d9f8b6c5d"), {"pod-template-hash": "7d9f8b6c5d"}, ("chat", "Deployment")),
        (("ReplicaSet", "chat-by-hand"), {}, ("chat-by-hand", "ReplicaSet")),
        (("StatefulSet", "chat-70b"), {}, ("chat-70b", "StatefulSet")),
        (("Job", "train-28912345"), {}, ("train", "CronJob")),
        (("Job", "train-2025"), {}, ("train-2025", "Job")),
        (("LeaderWorkerSet", "llm"), {}, ("llm", "LeaderWorkerSet")),
        (None, {}, ("p", "pod")),
    ],
)
def test_an_unlabelled_pod_is_named_after_its_controller(
    made_by: tuple[str, str] | None, labels: dict[str, str], named: tuple[str, str]
) -> None:
    assert controller_name(decoded(made_by=made_by, labels=labels)) == named


def test_an_unlabelled_pod_is_named_by_namespace_and_controller_with_a_warning() -> None:
    report = of(GPU, made_by=("StatefulSet", "chat"), labels={"wattlog.io/tenant": "acme"})
    holder = report.claims[0].holder
    assert holder is not None
    assert (holder.workload, holder.rule) == ("serving/chat", "StatefulSet")
    assert [w.kind for w in report.warnings] == ["no_label"]


@pytest.mark.parametrize(
    ("label", "value", "kinds"),
    [
        ("wattlog.io/tenant", "__idle__", ["bad_name"]),
        ("wattlog.io/tenant", "", ["no_tenant"]),
        ("wattlog.io/workload", "~n1", ["bad_name", "no_label"]),
        ("wattlog.io/workload", "a\nb", ["bad_name", "no_label"]),
    ],
)
def test_an_invalid_name_is_reported_and_not_used(label: str, value: str, kinds: list[str]) -> None:
    report = of(GPU, labels={**LABELLED, label: value})
    holder = report.claims[0].holder
    assert holder is not None
    assert (holder.workload, holder.tenant) == (("serving/p", "acme") if "workload" in label else ("chat", ""))
    assert [w.kind for w in report.warnings] == kinds


def test_the_namespace_of_a_pod_may_be_its_tenant() -> None:
    report = claims(
        [PodDevice("serving", "p", "main", GPU)],
        {("serving", "p"): decoded(labels=LABELLED)},
        PodLabelNames(),
        "namespace",
    )
    assert report.claims[0].holder == WorkloadHolder(
        workload="chat",
        tenant="serving",
        source="kubernetes",
        namespace="serving",
        pod="p",
        container="main",
        team="search",
        cost_centre="4711",
        model="llama-3.1-8b",
        rule="label",
    )


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_an_ended_pod_holds_no_gpu_even_if_the_kubelet_lists_it(phase: str) -> None:
    assert of(GPU, labels=LABELLED, phase=phase) == ClaimReport([], ())


def test_an_unknown_pod_holds_its_gpu_without_a_name() -> None:
    report = claims([PodDevice("serving", "gone", "main", GPU)], {}, PodLabelNames())
    assert report.claims == [DeviceClaim(GPU, None)]
    assert [w.kind for w in report.warnings] == ["unknown_holder"]


# Frequency of calls.


def test_labels_are_read_for_a_new_pod_and_every_minute(node: FakeKubelet, server: FakeApi, tmp_path: Path) -> None:
    asking = source(node, server, tmp_path)
    assert asking.read(BOARDS, 0) == ClaimReport([], ())
    assert server.calls == 0
    node.answer = resources(("serving", "chat-0", {"main": {"nvidia.com/gpu": [GPU]}}))
    server.pods = {"n1": [pod("serving", "chat-0", LABELLED)]}
    for now_ms in (10_000, 20_000, 30_000):
        holder = asking.read(BOARDS, now_ms).claims[0].holder
        assert holder is not None
        assert holder.workload == "chat"
    assert server.calls == 1
    server.pods["n1"].append(pod("serving", "chat-1", LABELLED))
    node.answer = resources(("serving", "chat-1", {"main": {"nvidia.com/gpu": [GPU]}}))
    assert asking.read(BOARDS, 40_000).claims[0].holder is not None
    asking.read(BOARDS, 40_000 + LABELS_MS)
    assert server.calls == 3


def test_two_pods_on_one_gpu_cause_a_call_to_learn_which_has_ended(
    node: FakeKubelet, server: FakeApi, tmp_path: Path
) -> None:
    asking = source(node, server, tmp_path)
    server.pods = {"n1": [pod("s", "old", LABELLED), pod("s", "new", {**LABELLED, "wattlog.io/workload": "code"})]}
    held = {"main": {"nvidia.com/gpu": [GPU]}}
    node.answer = resources(("s", "old", held))
    asking.read(BOARDS, 0)
    node.answer = resources(("s", "old", held), ("s", "new", held))
    server.pods["n1"][0]["status"]["phase"] = "Succeeded"
    assert [c.holder.workload for c in asking.read(BOARDS, 10_000).claims if c.holder] == ["code"]


def test_without_an_api_server_known_pods_keep_their_labels_for_a_while_and_new_ones_have_none(
    node: FakeKubelet, server: FakeApi, tmp_path: Path
) -> None:
    asking = source(node, server, tmp_path, keep_ms=300_000)
    server.pods = {"n1": [pod("s", "old", LABELLED)]}
    node.answer = resources(("s", "old", {"main": {"nvidia.com/gpu": [GPU]}}))
    asking.read(BOARDS, 0)
    server.status = 403
    snapshot = asking.read(BOARDS, 299_000)
    assert snapshot.claims[0].holder is not None
    assert any("403" in w.message for w in snapshot.warnings)
    assert asking.read(BOARDS, 301_000).claims == [DeviceClaim(GPU, None)]
    node.answer = resources(("s", "new", {"main": {"nvidia.com/gpu": [GPU]}}))
    assert asking.read(BOARDS, 302_000).claims == [DeviceClaim(GPU, None)]
