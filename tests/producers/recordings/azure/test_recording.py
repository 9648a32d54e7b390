"""Azure's traces, and the power model that stands in for their watts."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import BadInput
from contracts.events import Method
from producers.recordings.azure.power_model import ModelledServer, PowerModel
from producers.recordings.azure.recording import azure, tenant_of
from tests.producers.recordings.replay import replay, wire, write

HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens"


@pytest.fixture(scope="module")
def published(shared_data: Path) -> Path:
    return shared_data / "traces" / "AzureLLMInferenceTrace_code.csv"


def test_every_published_request_is_replayed_once(published: Path) -> None:
    recording = azure(published)
    out = replay(recording.events())
    (workload,) = out.requests
    assert out.requests[workload] == len({r[0] for r in out.token_rows}) == 8_819
    assert out.prompt[workload] == 18_059_974
    assert out.completion[workload] == 245_896
    assert recording.rows == len(out.token_rows) + len(out.power_rows)
    assert not out.bad
    assert recording.simulated


def test_the_published_trace_draws_a_plausible_power(published: Path) -> None:
    recording = azure(published)
    rows = replay(recording.events()).power_rows
    watts = [r[3] / (r[2] - r[1]) / 1000 for r in rows]
    assert min(watts) == pytest.approx(69.85)
    assert max(watts) < 720  # the board's limit is 700 W; the model has no cap
    assert {r[4] for r in rows} == {Method.ESTIMATED}
    assert recording.idle_floors[0].idle_mw == 69_850


def test_energy_is_idle_time_plus_the_stated_joules_per_token(published: Path) -> None:
    recording, model = azure(published), PowerModel()
    idle_uj = round(model.idle_w * 1e6) * model.gpus * (recording.end_ms - recording.start_ms) // 1000
    assert sum(replay(recording.events()).energy_uj.values()) == idle_uj + 18_059_974 * 199_000 + 245_896 * 1_184_000


def test_request_ids_and_tenants_come_from_the_line(published: Path) -> None:
    rows = replay(azure(published).events()).token_rows
    assert {f"AzureLLMInferenceTrace_code-{n}" for n in range(2, 8_821)} == {r[0] for r in rows}
    assert all(r[1] == tenant_of(int(r[0].rpartition("-")[2]), 8) for r in rows)
    assert len({r[1] for r in rows}) == 8


def test_a_file_always_gives_the_same_bytes(published: Path) -> None:
    assert wire(azure(published).events()) == wire(azure(published).events())


def test_the_2024_format_is_read_alike(tmp_path: Path) -> None:
    old = write(tmp_path / "a.csv", HEADER, "2023-11-16 18:17:03.9799600,4808,10", "2023-11-16 18:17:04.0319600,3180,8")
    new = write(
        tmp_path / "b.csv",
        "GeneratedTokens,TIMESTAMP,ContextTokens,Extra",
        "10,2023-11-16 18:17:03.979960+00:00,4808,x",
        "8,2023-11-16 19:17:04.031960+01:00,3180,x",
    )  # fmt: skip
    a, b = (replay(azure(f).events()) for f in (old, new))
    assert [r[2:] for r in a.token_rows] == [r[2:] for r in b.token_rows]
    assert [r[1:] for r in a.power_rows] == [r[1:] for r in b.power_rows]


def test_options_that_change_the_events_change_their_source(tmp_path: Path) -> None:
    file = write(tmp_path / "a.csv", HEADER, "2023-11-16 18:17:03,4808,10")
    recordings = [azure(file), azure(file, tenants=9), azure(file, power=PowerModel(gpus=4))]
    assert len({replay(r.events()).events[0].source for r in recordings}) == 3


BAD_ROWS = [
    ("x,1,1", "timestamp"),
    ("2023-11-16 18:17:05,-1,1", "contexttokens"),
    ("2023-11-16 18:17:05,1,1.5", "generatedtokens"),
    ("2023-11-16 18:17:05,1,", "generatedtokens"),
    ("2023-11-16 18:17:05,1,99999999999", "generatedtokens"),
    ("2023-11-16 18:17:05,1,2000000000", "GeneratedTokens"),
    ("2023-11-16 18:17:05,1", ""),
]


@pytest.mark.parametrize(("row", "column"), BAD_ROWS)
def test_a_bad_row_is_reported_and_the_others_are_replayed(tmp_path: Path, row: str, column: str) -> None:
    file = write(tmp_path / "a.csv", HEADER, "2023-11-16 18:17:03,10,1", row, "2023-11-16 18:17:06,20,1")
    out = replay(azure(file).events())
    assert [(b.file, b.line, b.column) for b in out.bad] == [("a.csv", 3, column)]
    assert out.prompt["a"] == 30


def test_unsorted_rows_are_sorted(tmp_path: Path) -> None:
    file = write(tmp_path / "a.csv", HEADER, "2023-11-16 18:17:09,10,1", "2023-11-16 18:17:03,20,1")
    assert [r[5] for r in replay(azure(file).events()).token_rows] == [20, 10]


def test_a_time_years_away_adds_no_idle_years(tmp_path: Path) -> None:
    file = write(tmp_path / "a.csv", HEADER, "2023-11-16 18:17:09,10,1", "2043-11-16 18:17:03,20,1")
    assert len(replay(azure(file).events()).power_rows) == 16


@pytest.mark.parametrize(
    ("lines", "message"), [((), "is empty"), (("TIMESTAMP,A",), "ContextTokens"), ((HEADER,), "no row")]
)
def test_a_file_that_is_no_trace_is_refused(tmp_path: Path, lines: tuple[str, ...], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        azure(write(tmp_path / "a.csv", *lines))


def test_tenants_are_weighted_by_rank() -> None:
    counts = [0, 0, 0]
    for line in range(11_000):
        counts[int(tenant_of(line, 3)[-2:]) - 1] += 1
    assert counts == pytest.approx([6000, 3000, 2000], rel=0.05)


REQUESTS = st.lists(
    st.tuples(st.integers(0, 3_000_000), st.integers(0, 30_000), st.integers(0, 2_000)), min_size=1, max_size=40
)


@given(REQUESTS, st.integers(1, 9))
def test_the_model_conserves_energy(requests: list[tuple[int, int, int]], gpus: int) -> None:
    model = PowerModel(gpus=gpus)
    server, now, seconds = ModelledServer(model), 1_700_000_000_000_000, []
    for wait, prompt, completion in requests:
        now += wait
        seconds += server.until(now)
        served = server.offer(now, prompt, completion)
        assert now <= served.prefill_us <= served.first_us <= served.end_us
    seconds += server.drain()
    assert (
        [s.t_ms for s in seconds] == list(range(seconds[0].t_ms, seconds[0].t_ms + 1000 * len(seconds), 1000))
        if seconds
        else True
    )
    prompt, completion = sum(r[1] for r in requests), sum(r[2] for r in requests)
    total = sum(sum(s.energy_uj) for s in seconds)
    assert total == len(seconds) * 69_850_000 * gpus + prompt * 199_000 + completion * 1_184_000
    assert all(max(s.energy_uj) - min(s.energy_uj) <= 1 for s in seconds)


@pytest.mark.parametrize(
    "changes", [{"gpus": 0}, {"idle_w": -1.0}, {"decode_tokens_per_s": 0.0}, {"prefill_j_per_token": float("nan")}]
)
def test_an_invalid_model_is_refused(changes: dict[str, float]) -> None:
    with pytest.raises(BadInput):
        PowerModel(**changes)  # type: ignore[arg-type]
