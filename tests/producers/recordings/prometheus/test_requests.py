"""Requests of a CSV file beside a history out of Prometheus: which count, and how they meet the GPUs' workloads."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from contracts.errors import BadInput
from contracts.units import rfc3339
from producers.recordings.base import BadRow
from tests.producers.recordings.prometheus.history import ENERGY, T0, open_history, replay_history, steady
from tests.producers.recordings.prometheus.stand_in import StandIn
from tests.producers.recordings.replay import replay, wire, write

COLUMNS = "start,end,tenant,model,prompt_tokens,completion_tokens"
WORKLOAD = {"workload": "chat"}


@pytest.fixture
def server() -> StandIn:
    server = StandIn()
    server.add(ENERGY, steady(), UUID="GPU-a", Hostname="n1", exported_namespace="acme")
    return server


def requests(folder: Path, spans: Iterable[tuple[float, float]] = ((10, 20),), suffix: str = "") -> Path:
    """A file of requests, each over seconds since T0; `suffix` ends each line, the header included."""
    name, _, value = suffix.partition("=")
    lines = [f"{T0 + a},{T0 + b},acme,m,7,5" + (f",{value}" if name else "") for a, b in spans]
    return write(folder / "requests.csv", COLUMNS + (f",{name}" if name else ""), *lines)


def notes(server: StandIn, folder: Path, **options: Any) -> str:
    return " ".join(open_history(server, folder / "history", **options).notes)


def test_requests_join_the_energy_of_their_workload(server: StandIn, tmp_path: Path) -> None:
    out = replay_history(server, tmp_path / "h", tokens=requests(tmp_path), **WORKLOAD)
    assert (out.energy_uj, out.requests) == ({"chat": 300 * 600 * 1_000_000}, {"chat": 1})
    assert (out.prompt["chat"], out.completion["chat"]) == (7, 5)
    assert out.token_rows[0][1:4] == ("acme", (T0 + 10) * 1000, 0)


def test_a_history_without_requests_has_the_source_that_it_always_had(server: StandIn, tmp_path: Path) -> None:
    source = replay_history(server, tmp_path).events[0].source
    assert source.partition("@")[2] == "7d96b8b4fe6e/c/~n1/wattlog.power.v1"


def test_other_requests_are_another_recording(server: StandIn, tmp_path: Path) -> None:
    with server.serving() as url:  # The address is part of the source.
        sources = [
            replay_history(url, tmp_path / "h", tokens=spans and requests(tmp_path, spans), **WORKLOAD).events[0].source
            for spans in (None, [(10, 20)], [(10, 21)])
        ]
    assert len(set(sources)) == 3


def test_a_replay_that_is_repeated_sends_the_same_events(server: StandIn, tmp_path: Path) -> None:
    tokens = requests(tmp_path, [(s, s + 7) for s in range(500, 0, -1)])
    recording = open_history(server, tmp_path / "h", tokens=tokens, **WORKLOAD)
    assert wire(recording.events()) == wire(recording.events())
    assert recording.rows == len(replay(recording.events()).power_rows) + 500


def test_requests_outside_the_time_or_the_cluster_are_left_out_and_counted(server: StandIn, tmp_path: Path) -> None:
    tokens = requests(tmp_path, [(-30, -20), (-5, 5), (0, 600), (300, 310), (595, 605), (700, 710)])
    assert replay_history(server, tmp_path / "h", tokens=tokens, **WORKLOAD).requests == {"chat": 2}
    text = notes(server, tmp_path, tokens=tokens, **WORKLOAD)
    assert "4 requests of requests.csv do not lie within --from and --to in cluster c, and are left out" in text
    tokens = requests(tmp_path, suffix="cluster=west")
    assert "1 request of requests.csv does not lie" in notes(server, tmp_path, tokens=tokens, **WORKLOAD)


def test_requests_that_run_across_an_end_of_the_time_are_noted_since_their_energy_counts(
    server: StandIn, tmp_path: Path
) -> None:
    def text(*spans: tuple[float, float]) -> str:
        return notes(server, tmp_path, tokens=requests(tmp_path, spans), **WORKLOAD)

    assert "2 of them begin before --from or end after --to, and run in between" in text((-5, 5), (0, 600), (595, 605))
    assert "1 of them begins before --from or ends after --to" in text((-5, 5), (0, 600))
    assert "J/token" not in text((-9, 0), (0, 600), (600, 605))


def test_replays_side_by_side_count_each_request_within_them_once(server: StandIn, tmp_path: Path) -> None:
    tokens = requests(tmp_path, [*((s, s + 1) for s in range(600)), (300, 300), (299, 301)])
    limits = [T0 * 1000, (T0 + 300) * 1000, (T0 + 600) * 1000]
    seen = [
        replay_history(server, tmp_path / str(a), start_ms=a, end_ms=b, tokens=tokens, **WORKLOAD)
        for a, b in pairwise(limits)
    ]
    assert [out.requests["chat"] for out in seen] == [300, 301]
    assert len({row[0] for out in seen for row in out.token_rows}) == 601


def test_requests_of_a_workload_that_no_gpu_had_are_noted_with_those_that_gpus_had(
    server: StandIn, tmp_path: Path
) -> None:
    options = {"owner_label": "exported_namespace", **WORKLOAD}
    text = notes(server, tmp_path, tokens=requests(tmp_path), **options)
    assert "1 request is unmetered, because no GPU had its workload: chat. GPUs had acme/chat." in text
    text = notes(server, tmp_path, tokens=requests(tmp_path, suffix="workload=acme/chat"), **options)
    assert "unmetered" not in text


def test_requests_need_a_workload(server: StandIn, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"requests\.csv also needs workload"):
        open_history(server, tmp_path / "h", tokens=requests(tmp_path))
    tokens = write(tmp_path / "r.csv", f"{COLUMNS},workload", f"{T0},{T0},a,m,1,1,", f"{T0},{T0},a,m,1,1,chat")
    out = replay_history(server, tmp_path / "h", tokens=tokens)
    assert (out.requests["chat"], [row.column for row in out.bad]) == (1, ["workload"])


def test_tenant_model_zone_and_start_are_those_of_the_options(server: StandIn, tmp_path: Path) -> None:
    tokens = write(tmp_path / "r.csv", "start,end,prompt_tokens,completion_tokens", "5,9,1,2")
    options = {"tenant": "acme", "model": "m", "start": rfc3339(T0 * 1000), **WORKLOAD}
    out = replay_history(server, tmp_path / "h", tokens=tokens, **options)
    assert out.token_rows[0][1:3] == ("acme", (T0 + 5) * 1000)
    local = rfc3339((T0 + 5 + 3600) * 1000).rstrip("Z")
    tokens = write(tmp_path / "r.csv", "start,end,prompt_tokens,completion_tokens", f"{local},{local},1,2")
    for zone in ({"utc_offset": "+01:00"}, {"timezone": "Europe/Berlin"}):
        out = replay_history(server, tmp_path / "h", tokens=tokens, **options | zone)
        assert out.token_rows[0][2] == (T0 + 5) * 1000


@pytest.mark.parametrize(
    ("lines", "match"),
    [
        (['{"start": 1}'], "is JSON"),
        ([COLUMNS, "soon,later,a,m,1,2"], "none of its rows can be read"),
        (["start,end,tenant,model"], "also needs prompt_tokens and completion_tokens"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_before_anything_is_asked(
    server: StandIn, tmp_path: Path, lines: list[str], match: str
) -> None:
    with pytest.raises(BadInput, match=match):
        open_history(server, tmp_path / "h", tokens=write(tmp_path / "r.csv", *lines), **WORKLOAD)
    assert not server.requests


def test_a_bad_row_is_reported_with_its_line_and_the_others_count(server: StandIn, tmp_path: Path) -> None:
    tokens = write(tmp_path / "r.csv", COLUMNS, f"{T0},{T0},a,m,x,1", f"{T0},{T0},a,m,1,1")
    out = replay_history(server, tmp_path / "h", tokens=tokens, **WORKLOAD)
    assert out.requests == {"chat": 1}
    [bad] = out.bad
    assert isinstance(bad, BadRow)
    assert (bad.file, bad.line, bad.column) == ("r.csv", 2, "prompt_tokens")
