"""GPUs from exporters: recorded pages, blanks, repeated boards, and pages with old values."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from contracts import topics
from contracts.errors import BadSetting, Unavailable
from contracts.events import PowerBatch
from contracts.settings import Settings
from producers.gpu.exporter.plugin import ExporterConfig, ExporterNames, build, check
from producers.gpu.exporter.sensor import FIRST_PERIOD_MS, ExporterSensor
from producers.gpu.exporter_formats import AMD, DCGM, NVIDIA_SMI, PRESETS, TRITON, ExporterFormat
from producers.gpu.meter import add_reading
from producers.gpu.meter_state import MeterState
from producers.gpu.readings import GpuReading
from producers.runtime.runner import run
from tests.producers.conftest import Page
from tests.producers.frame import environment
from tests.support.clocks import clock_at
from tests.support.event_log import read_events

T4 = "GPU-20c56d28-0da5-6d26-a36a-e7af1ce2586e"
A100 = "GPU-34319582-d595-d1c7-d1d2-179bcfa61660"
NOBODY = "00000000-0000-0000-0000-000000000000"
ROW = 'DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION{gpu="0",UUID="GPU-a",modelName="NVIDIA  H100",GPU_I_ID="%s"} %s\n'


def read(text: str, exporter: ExporterFormat = DCGM, t_ms: int = 1_000) -> list[GpuReading]:
    return ExporterSensor(exporter, lambda: text).readings(clock_at(t_ms))


@pytest.mark.parametrize(
    ("exporter", "file", "reading"),
    [
        (
            DCGM,
            "dcgm_exporter_tesla_t4_datadog.prom",
            GpuReading(
                gpu_uuid=T4,
                hardware="Tesla T4",
                t_ms=1_000,
                monotonic_ms=1_000,
                counter_mj=128_996_013,
                watts=8.969,
                utilisation=0.0,
                period_ms=FIRST_PERIOD_MS,
            ),
        ),
        (
            DCGM,
            "dcgm_exporter_a100_mig_docs.prom",
            GpuReading(
                gpu_uuid=A100,
                hardware="unknown",
                t_ms=1_000,
                monotonic_ms=1_000,
                counter_mj=319_159_391,
                watts=409.692,
                utilisation=None,
                period_ms=FIRST_PERIOD_MS,
            ),
        ),
        (
            NVIDIA_SMI,
            "linux-x86_64__nvidia-h100-80gb-hbm3__590.48.01__load.metrics",
            GpuReading(
                gpu_uuid=f"GPU-{NOBODY}",
                hardware="NVIDIA H100 80GB HBM3",
                t_ms=1_000,
                monotonic_ms=1_000,
                counter_mj=None,
                watts=625.68,
                utilisation=1.0,
                limit_w=700.0,
                period_ms=FIRST_PERIOD_MS,
            ),
        ),
    ],
)
def test_recorded_pages_give_one_reading_per_board(
    shared_data: Path, exporter: ExporterFormat, file: str, reading: GpuReading
) -> None:
    text = (shared_data / "metrics" / file).read_text("utf-8")
    assert [r for r in read(text, exporter) if r.gpu_uuid == reading.gpu_uuid] == [reading]


@pytest.mark.parametrize(
    ("name", "readings"),
    [
        (
            "all_smi",
            [
                ("01P4-HL3090A0-18-U4V193-22-07-00", 8_430_127_125, 613.0, 0.87, 850.0),
                ("01P4-HL3090A0-18-U4V247-10-05-04", 2_210_034_500, 224.5, 0.0, None),
            ],
        ),
        ("kepler", [("GPU-3877938d-024c-c46b-5268-cd86ad37f0d7", 12_345_670, 65.5, None, None)]),
    ],
)
def test_a_page_of_a_preset_gives_its_gpus_and_nothing_of_hosts_or_processes(
    name: str, readings: list[tuple[str, int, float, float | None, float | None]]
) -> None:
    (page,) = (Path(__file__).parent / "pages").glob(f"{name}*.prom")
    columns = [
        (r.gpu_uuid, r.counter_mj, r.watts, r.utilisation, r.limit_w) for r in read(page.read_text(), PRESETS[name])
    ]
    assert columns == readings
    assert {r.hardware for r in read(page.read_text(), PRESETS[name])} <= {"Intel Gaudi 3 (HL-325L)", "Tesla T4"}


def test_doctor_counts_the_gpus_of_a_page_and_those_with_a_counter(serve: Callable[[Page], str]) -> None:
    page = (Path(__file__).parent / "pages/all_smi_gaudi.prom").read_text()
    url = serve(lambda: (200, page))
    findings = list(check(ExporterConfig(url=url, kind="all_smi"), environment(Settings())))
    assert findings == [(url, "all_smi: 2 GPUs, 2 with an energy counter")]


def test_slices_that_repeat_their_board_are_one_reading() -> None:
    [reading] = read(ROW % ("", 500) + ROW % (7, 500) + ROW % (8, 500))
    assert (reading.counter_mj, reading.hardware) == (500, "NVIDIA H100")


@pytest.mark.parametrize("blank", ["9223372036854775794", "NaN", "-1"])
def test_a_blank_is_unknown_and_not_zero(blank: str) -> None:
    power = 'DCGM_FI_DEV_POWER_USAGE{UUID="GPU-a"} '
    [reading] = read(ROW % ("", blank) + power + "300.5\n")
    assert (reading.counter_mj, reading.watts) == (None, 300.5)
    [reading] = read(ROW % ("", 5) + power + blank + "\n")
    assert (reading.counter_mj, reading.watts) == (5, None)


@pytest.mark.parametrize(
    ("exporter", "text", "expected"),
    [
        (DCGM, 'DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION{uuid="GPU-a"} 15152422938\n', ("GPU-a", 15_152_422_938, None)),
        (
            NVIDIA_SMI,
            'nvidia_smi_power_draw_watts{uuid="aa"} 300\nnvidia_smi_energy_joules_total{uuid="aa"} 123456.789\n',
            ("GPU-aa", 123_456_789, 300.0),
        ),
        (
            AMD,
            'gpu_package_power{serial_number="69",gpu_id="0",hostname="n1"} 172\n'
            'gpu_energy_consumed{serial_number="69",gpu_id="0",hostname="n1"} 2.33e+13\n',
            ("69", 23_300_000_000, 172.0),
        ),
        (
            TRITON,
            'nv_gpu_power_usage{gpu_uuid="GPU-a"} 70.1\nnv_energy_consumption{gpu_uuid="GPU-a"} 1500.25\n',
            ("GPU-a", 1_500_250, 70.1),
        ),
        (
            ExporterNames(
                energy="energy", energy_unit="kWh", power="power", power_unit="mW", identity=("slot",)
            ).to_format(),
            'energy{slot="3"} 0.5\npower{slot="3"} 250500\n',
            ("3", 1_800_000_000, 250.5),
        ),
    ],
    ids=["old label", "counter in joules", "AMD", "Triton", "configured names"],
)  # fmt: skip
def test_identity_energy_and_power_are_read_by_the_names_and_units_of_a_format(
    exporter: ExporterFormat, text: str, expected: tuple[str, int, float | None]
) -> None:
    [reading] = read(text, exporter)
    assert (reading.gpu_uuid, reading.counter_mj, reading.watts) == expected


def test_a_page_of_several_nodes_is_refused_and_the_nodes_are_named() -> None:
    row = 'DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION{UUID="GPU-%s",Hostname="node-%s"} 1000\n'
    with pytest.raises(Unavailable, match="several nodes: node-a, node-b"):
        read(row % ("a", "a") + row % ("b", "b"))


def test_rows_without_an_identity_are_reported_with_the_label_that_is_missing() -> None:
    with pytest.raises(Unavailable, match=r"do not tell which GPU.*label UUID or uuid; they have gpu"):
        read('DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION{gpu="0"} 1000\n')


@pytest.mark.parametrize(("percent", "utilisation"), [("100", 1.0), ("101", None), ("0", 0.0)])
def test_a_utilisation_above_the_whole_is_unknown(percent: str, utilisation: float | None) -> None:
    [reading] = read(ROW % ("", 5) + f'DCGM_FI_DEV_GPU_UTIL{{UUID="GPU-a"}} {percent}\n')
    assert reading.utilisation == utilisation


@pytest.mark.parametrize(
    "options",
    [{"kind": "names"}, {"kind": "dcgm", "names": ExporterNames(energy="e")}],
)
def test_names_and_their_kind_need_each_other(options: dict[str, Any]) -> None:
    with pytest.raises(BadSetting, match="need each other"):
        build(ExporterConfig(url="http://a/metrics", **options), environment(Settings()))


def test_names_without_a_measure_are_refused() -> None:
    with pytest.raises(ValidationError, match="give `energy` or `power`"):
        ExporterNames(identity=("a",))


@pytest.mark.parametrize(
    ("model", "series", "hardware"),
    [("102-G30211", "Instinct MI300X", "102-G30211"), ("", "Instinct  MI300X", "Instinct MI300X"), ("", "", "unknown")],
)
def test_the_first_label_that_names_the_product_counts(model: str, series: str, hardware: str) -> None:
    """In guests, AMD's exporter leaves the model empty."""
    page = f'gpu_package_power{{serial_number="7",card_model="{model}",card_series="{series}"}} 300\n'
    assert [r.hardware for r in read(page, AMD)] == [hardware]


def test_a_page_without_gpus_is_reported() -> None:
    with pytest.raises(Unavailable, match="TOTAL_ENERGY"):
        read("up 1\n")


def test_an_interval_is_as_long_as_the_exporters_refresh() -> None:
    text, intervals = "", []
    state: MeterState | None = None
    exporter = ExporterSensor(DCGM, lambda: text)
    for t_ms in range(0, 91_000, 1_000):
        text = ROW % ("", 1_000 + t_ms // 30_000 * 9_000_000)  # 300 W, refreshed every 30 s
        for reading in exporter.readings(clock_at(t_ms)):
            took = add_reading(state, reading)
            state = took.state
            intervals += took.intervals
    assert [(i.t0_ms, i.t1_ms, i.energy_uj) for i in intervals] == [
        (30_000 * n, 30_000 * (n + 1), 9_000_000_000) for n in range(3)
    ]


@pytest.mark.parametrize(
    ("renewed_ms", "period_ms"),
    [([], 30_000), ([1_000, 2_000], 30_000), ([5_000, 10_000, 15_000, 20_000], 5_000), ([0, 900_000], 30_000)],
)
def test_the_period_of_a_page_is_seen_on_it_and_dcgm_exporters_at_first(renewed_ms: list[int], period_ms: int) -> None:
    now_ms = 0
    exporter = ExporterSensor(DCGM, lambda: ROW % ("", 5 + sum(now_ms >= t_ms for t_ms in renewed_ms)))
    for now_ms in range(0, 1_000_000, 1_000):
        [reading] = exporter.readings(clock_at(now_ms))
    assert reading.period_ms == period_ms


def test_the_producer_meters_from_the_exporters_page_to_the_log(
    serve: Callable[[Page], str], broker: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = itertools.count()
    monkeypatch.setenv("WATTLOG_CONFIG", str(tmp_path / "none.toml"))
    monkeypatch.setenv("WATTLOG_EXPORTER_URL", serve(lambda: (200, ROW % ("", 1_000 + 300 * next(reads)))))
    stop = threading.Event()
    settings = Settings(
        data=tmp_path, kafka_bootstrap=broker, cluster="east", node="gpu-7", workload="chat", sample_hz=10,
        publish_ms=200,
    )  # fmt: skip
    thread = threading.Thread(target=run, args=("exporter", settings, stop))
    thread.start()
    while next(reads) < 20 and thread.is_alive():
        stop.wait(0.1)
    stop.set()
    thread.join()
    events = read_events(settings, topics.POWER)
    assert {(e.source, e.workload) for e in events} == {("dcgm://east/gpu-7/chat", "chat")}
    batches = [e.batch for e in events if isinstance(e.batch, PowerBatch) and len(e.batch)]
    assert {b.gpus for b in batches} == {(("GPU-a", "NVIDIA H100"),)}
    energy_uj = sum(int(b.energy_uj.sum()) for b in batches)
    assert energy_uj > 0
    assert energy_uj % 300_000 == 0


def test_an_address_with_a_password_is_refused() -> None:
    with pytest.raises(ValidationError, match="leave user and password out"):
        ExporterConfig(url="https://u:pw@gpu-7/metrics")


def test_a_missing_address_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WATTLOG_CONFIG", str(tmp_path / "none.toml"))
    with pytest.raises(BadSetting, match="say where its page is"):
        run("exporter", Settings(), threading.Event())
