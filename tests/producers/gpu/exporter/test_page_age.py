"""Age of an exporter's page in /metrics: it rises while the page stands or is away, and falls when it moves again."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack

import pytest

from contracts.errors import Unavailable
from contracts.settings import Settings
from producers.api import Environment
from producers.gpu.exporter.plugin import ExporterConfig, build
from tests.producers.conftest import Page
from tests.support.clocks import FakeClock

ROW = 'DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION{UUID="GPU-a"} %d'
LABELS = {"cluster": "east", "node": "gpu-7", "source": "dcgm"}


class Exporter:
    """A sensor of a served page, and what a scrape of the agent shows of the page's age."""

    def __init__(self, serve: Callable[[Page], str]) -> None:
        self.status, self.page, self.clock = 200, "", FakeClock()
        settings = Settings(cluster="east", node="gpu-7")
        self._environment = Environment(settings, self.clock, threading.Event(), ExitStack())
        url = serve(lambda: (self.status, self.page))
        self._sensor = build(ExporterConfig(url=url), self._environment)

    def read(self, s: int, page: str) -> float | None:
        """The age in seconds on `/metrics`, after the page was read at a second."""
        self.clock.now_ms, self.page = 1000 * s, page
        self._sensor.readings(self.clock)
        return self.age_s()

    def age_s(self) -> float | None:
        return self._environment.metrics.get_sample_value("wattlog_producer_page_age_seconds", LABELS)


@pytest.fixture
def exporter(serve: Callable[[Page], str]) -> Exporter:
    return Exporter(serve)


def test_the_age_rises_while_a_page_stands_and_falls_when_it_moves(exporter: Exporter) -> None:
    assert exporter.age_s() is None
    ages = [exporter.read(s, ROW % (1_000 if s < 600 else s)) for s in (0, 30, 300, 599, 600, 630)]
    assert ages == [0, 30, 300, 599, 0, 0]


def test_a_page_that_only_changes_elsewhere_stands(exporter: Exporter) -> None:
    ages = [exporter.read(s, f"{ROW % 1_000}\nprocess_cpu_seconds_total {s}\n") for s in (0, 30, 60)]
    assert ages == [0, 30, 60]


@pytest.mark.parametrize(("values", "stamps"), [((1, 2, 3), (7, 7, 7)), ((1, 1, 1), (7, 8, 9))], ids=str)
def test_values_and_timestamps_must_both_move(
    exporter: Exporter, values: tuple[int, ...], stamps: tuple[int, ...]
) -> None:
    pages = [f"{ROW % value} {stamp}" for value, stamp in zip(values, stamps, strict=True)]
    assert [exporter.read(60 * n, page) for n, page in enumerate(pages)] == [0, 60, 120]


def test_timestamps_that_are_gone_do_not_age(exporter: Exporter) -> None:
    assert [exporter.read(0, ROW % 1 + " 7"), exporter.read(60, ROW % 2), exporter.read(90, ROW % 3)] == [0, 0, 0]


def test_the_age_also_rises_while_the_page_is_away(exporter: Exporter) -> None:
    exporter.read(0, ROW % 1_000)
    exporter.status = 503
    with pytest.raises(Unavailable):
        exporter.read(400, "")
    assert exporter.age_s() == 400
