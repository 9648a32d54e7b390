"""Runs of `sacct` and its saved output, tenants, and the doctor's findings."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from contracts.errors import BadSetting, Unavailable
from contracts.settings import Settings
from producers.api import Environment
from producers.meters.sacct.command import run_sacct
from producers.meters.sacct.job_records import FIELDS
from producers.meters.sacct.plugin import AccountRule, SacctConfig, build, check
from tests.producers.meters.sacct.records import ACCOUNTING, NOW, T0, jobs, line, rows
from tests.support.clocks import clock_at
from tests.support.waiting import wait_until


def options(**values: Any) -> SacctConfig:
    return SacctConfig(**values)


def environment(now_s: int = NOW) -> Environment:
    return Environment(Settings(cluster="c"), clock_at(now_s * 1000), threading.Event(), ExitStack())


def stand_in(folder: Path, script: str) -> str:
    path = folder / "sacct"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def test_the_command_gets_fixed_fields_utc_times_and_the_look_back(tmp_path: Path) -> None:
    command = stand_in(tmp_path, f'echo "$TZ $SLURM_TIME_FORMAT $*" > {tmp_path}/asked; cat {tmp_path}/out')
    (tmp_path / "out").write_bytes(ACCOUNTING)
    (source,) = build(options(command=(command, "--clusters=all"), look_back_h=10), environment())
    assert len(jobs(source.collect(None, clock_at(NOW * 1000)))) == 8
    arguments = (tmp_path / "asked").read_text().split()
    assert arguments[:3] == ["UTC", "%s", "--clusters=all"]
    assert "--starttime=2023-11-14T17:46:40" in arguments
    assert {"--allusers", "--duplicates", "--parsable2", "--noheader", "--endtime=now"} <= {*arguments}
    assert "--format=" + ",".join(FIELDS) in arguments


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo 'Slurm accounting storage is disabled' >&2; exit 1", "status 1: Slurm accounting storage is disabled"),
        ("sleep 600", "did not end within 0.5 s"),
        ("sleep 600 & echo; exit 0", "did not end within 0.5 s"),
        ("exec >&-; sleep 600", "did not end within 0.5 s"),
        ("yes 123456789", "prints more than 1,000 bytes"),
    ],
    ids=["fails", "hangs", "leaves a child that hangs", "closes its output and hangs", "prints without end"],
)  # fmt: skip
def test_a_command_that_fails_or_does_not_end_is_unavailable(tmp_path: Path, script: str, message: str) -> None:
    with pytest.raises(Unavailable, match=message):
        run_sacct([stand_in(tmp_path, script)], T0, 0.5, max_bytes=1_000)


def test_a_command_that_is_ended_ends_with_what_it_started(tmp_path: Path) -> None:
    command = stand_in(tmp_path, f"sleep 600 & echo $! > {tmp_path}/child; exit 0")
    with pytest.raises(Unavailable):
        run_sacct([command], T0, 0.5)
    child = int((tmp_path / "child").read_text())

    def has_ended() -> bool:
        try:
            return " Z " in Path(f"/proc/{child}/stat").read_text()
        except OSError:
            return True

    wait_until(has_ended, "the command's child has ended")


def test_a_missing_command_is_named(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="cannot be run: No such file"):
        run_sacct([str(tmp_path / "none")], T0, 1)


def test_a_saved_output_counts_jobs_that_began_after_its_first_one_ended(tmp_path: Path) -> None:
    (tmp_path / "jobs.txt").write_text("\n".join([line(1), line(2, T0 + 1_000, T0 + 1_500), line(3, NodeList="n9")]))
    (source,) = build(options(file=tmp_path / "jobs.txt"), environment())
    result = source.collect(None, clock_at(NOW * 1000))
    assert (jobs(result), result.skipped) == ([f"2/{T0 + 1_000}"], {"neighbours": 2})
    (source,) = build(options(file=tmp_path / "jobs.txt", exclusive=("gpu",)), environment())
    assert len(jobs(source.collect(None, clock_at(NOW * 1000)))) == 3


def test_a_command_and_a_file_are_not_both_read(tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match="not both"):
        build(options(file=tmp_path / "jobs.txt", command=("sacct",)), environment())


@pytest.mark.parametrize(
    ("values", "tenants"),
    [
        ({}, ["acme", "globex"]),
        ({"tenant": "user"}, ["alice", "bob"]),
        ({"rules": (AccountRule(account="g*", tenant="G"),)}, ["acme", "G"]),
        ({"rules": (AccountRule(user="bob", partition="cpu", tenant="B"), AccountRule(tenant="all"))}, ["all", "all"]),
        ({"rules": (AccountRule(account="acme", tenant=""),)}, ["", "globex"]),
    ],
)
def test_the_tenant_is_by_rule_else_the_account_or_the_user(
    tmp_path: Path, values: dict[str, Any], tenants: Sequence[str]
) -> None:
    lines = [line(1), line(2, NodeList="n2", Account="globex", User="bob")]
    (tmp_path / "jobs.txt").write_text("\n".join(lines))
    (source,) = build(options(file=tmp_path / "jobs.txt", exclusive=("gpu",), **values), environment())
    assert [row["tenant"] for row in rows(source.collect(None, clock_at(NOW * 1000)))] == tenants


def test_doctor_shows_what_counts_what_is_left_out_and_what_is_refused(tmp_path: Path) -> None:
    (tmp_path / "jobs.txt").write_bytes(ACCOUNTING + b"cut|off\n")
    config = options(file=tmp_path / "jobs.txt", exclusive=("gpu", "cpu"))
    (_, text), (_, error) = check(config, environment())
    assert str(text).startswith("8 jobs that ended have energy; 2 jobs have no energy")
    assert "12" in str(error)
    assert isinstance(error, Unavailable)
    assert list(check(options(), environment())) == []
    ((place, error),) = check(options(file=tmp_path / "none"), environment())
    assert (place, isinstance(error, Unavailable)) == (str(tmp_path / "none"), True)
