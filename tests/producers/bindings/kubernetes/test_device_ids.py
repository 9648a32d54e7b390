"""Ids of devices in the kubelet's answer, as the device plugins in use give them."""

from __future__ import annotations

import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.bindings.apportion import Binding
from producers.bindings.claims import ClaimReport, GpuBoard, board_of_device, device_of_name
from producers.bindings.config import PodLabelNames
from producers.bindings.kubernetes.device_ids import resolve_id
from producers.bindings.kubernetes.pods import LabelledPod, PodDevice, claims
from producers.bindings.resolution import resolve_claims
from tests.producers.bindings.kubernetes.stand_ins import pod

A = "GPU-11111111-2222-3333-4444-555555555555"
B = "GPU-11111111-2222-3333-4444-555555555556"
MIG_1, MIG_3 = A.replace("GPU", "MIG"), B.replace("GPU", "MIG")
BOARDS = (
    GpuBoard(A, 7, ((MIG_1, 1), (MIG_3, 3)), (
        ("0", A), ("nvidia1", A), ("0:0", MIG_1), ("nvidia1/gi1", MIG_1), ("0:1", MIG_3), ("nvidia1/gi3", MIG_3),
    )),
    GpuBoard(B, names=(("1", B), ("nvidia0", B))),
)  # fmt: skip
DEVICES, NAMES = board_of_device(BOARDS), device_of_name(BOARDS)


@pytest.mark.parametrize(
    ("device_id", "device", "replica"),
    [
        (A, A, ""), (MIG_1, MIG_1, ""), (f"{A}::3", A, "3"), (f"{MIG_1}::0", MIG_1, "0"), (f"{A}::", A, ""),
        (f"{A}-0", A, "0"), (f"{A}-17", A, "17"),
        ("nvidia0", B, ""), ("nvidia0/vgpu0", B, "vgpu0"), ("nvidia1/vgpu12", A, "vgpu12"),
        ("nvidia1/gi1", MIG_1, ""), ("nvidia1/gi3/vgpu2", MIG_3, "vgpu2"),
        ("0", A, ""), ("1", B, ""), ("0::1", A, "1"), ("0:1", MIG_3, ""), ("0/vgpu1", A, "vgpu1"),
    ],
)  # fmt: skip
def test_an_id_of_a_device_plugin_names_a_device_and_its_replica(device_id: str, device: str, replica: str) -> None:
    assert resolve_id(device_id, DEVICES, NAMES) == (device, replica)


@pytest.mark.parametrize(
    "device_id",
    [
        "nvidia", "nvidia2", "nvidia00", "nvidia0/", "nvidia0/gi1", "nvidia1/gi13", "nvidia1/gi", "nvidia0/vgpu",
        "nvidia0/gi1/vgpu0", "xnvidia0", "2", "00", "0:7", "10", "1-0", "nvidia0-1", A[:-1], f"{A}5", f"{A}-", f"{A}-x",
        f"{A}-12345", A.lower(), A.removeprefix("GPU-"), "", "renderD128", "gpu.nvidia.com/gpu-0",
    ],
)  # fmt: skip
def test_an_id_that_names_no_visible_device_is_returned_whole(device_id: str) -> None:
    assert resolve_id(device_id, DEVICES, NAMES) == (device_id, "")


@given(st.text("0123456789abcdefGPUMIGnvidia-:/gu", max_size=48))
def test_an_id_never_names_a_device_by_a_part_of_its_name(text: str) -> None:
    device, _ = resolve_id(text, DEVICES, NAMES)
    if device in DEVICES:
        assert any(
            re.fullmatch(rf"{re.escape(name)}(::\d*|/vgpu\d+|-\d{{1,4}})?", text)
            for name in (*DEVICES, *NAMES) if (NAMES.get(name) or name) == device
        )  # fmt: skip


def test_a_name_that_two_devices_have_names_none() -> None:
    assert device_of_name([GpuBoard("a", names=(("0", "a"),)), GpuBoard("b", names=(("0", "b"),))]) == {}


def report(*devices: tuple[str, str], annotations: dict[str, str] | None = None) -> ClaimReport:
    """Claims of pods on (pod, device id)."""
    pods = {}
    for name, _ in devices:
        spec = pod("s", name, {"wattlog.io/workload": name, "wattlog.io/tenant": "acme"})
        spec["metadata"]["annotations"] = {"other": "x", **(annotations or {})}
        pods["s", name] = msgspec.convert(spec, LabelledPod)
    return claims(
        [PodDevice("s", name, "main", device) for name, device in devices], pods, PodLabelNames(), boards=BOARDS
    )


def weights(outcome: ClaimReport) -> dict[str, list[tuple[str, int]]]:
    shares, _ = resolve_claims(BOARDS, outcome.claims, Binding("~n1"))
    return {gpu: [(s.binding.workload, s.weight) for s in held] for gpu, held in shares.items()}


@pytest.mark.parametrize("form", ["nvidia0/vgpu{}", B + "::{}", B + "-{}", "1::{}"])
def test_pods_that_share_a_gpu_have_equal_shares_by_any_ids(form: str) -> None:
    """dcgm-exporter shows one of them only: https://github.com/NVIDIA/dcgm-exporter/issues/307, 201."""
    assert weights(report(("chat", form.format(0)), ("code", form.format(1)))) == {B: [("chat", 1), ("code", 1)]}


def test_an_instance_of_gke_has_the_slices_of_its_instance() -> None:
    assert weights(report(("chat", "nvidia1/gi3"))) == {A: [("chat", 3), ("~n1", 4)]}


def test_an_id_that_cannot_be_resolved_is_named_and_its_gpu_stays_unallocated() -> None:
    outcome = report(("chat", "nvidia0/gi1"))
    shares, warnings = resolve_claims(BOARDS, outcome.claims, Binding("~n1"))
    assert shares == {}
    assert [(w.kind, "chat holds nvidia0/gi1" in w.message) for w in warnings] == [("unknown_device", True)]


def test_the_gpus_of_hamis_annotation_count_instead_of_the_kubelets() -> None:
    """The kubelet's ids are shares of any GPUs: https://github.com/Project-HAMi/HAMi/issues/1741."""
    allocated = {"hami.io/vgpu-devices-allocated": f"{A},NVIDIA,1000,0:{B},NVIDIA,1000,0:;,,0,0:;"}
    assert weights(report(("chat", f"{A}-3"), ("chat", f"{A}-7"), annotations=allocated)) == {
        A: [("chat", 1)], B: [("chat", 1)],
    }  # fmt: skip


def test_an_annotation_does_not_change_who_holds_a_whole_gpu() -> None:
    allocated = {"hami.io/vgpu-devices-allocated": f"{A},NVIDIA,1000,0:;"}
    assert weights(report(("chat", B), annotations=allocated)) == {B: [("chat", 1)]}
