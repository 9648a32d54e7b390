"""Slurm jobs and plain processes that hold GPUs: /proc and control groups as folders, `scontrol` as a script."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from pydantic import ValidationError

from contracts.errors import BadSetting, Unavailable
from producers.bindings.apportion import Binding
from producers.bindings.claims import ClaimReport, DeviceClaim, GpuBoard, WorkloadHolder
from producers.bindings.config import BindingsConfig
from producers.bindings.processes.rules import ProcessBindings, ProcessRule
from producers.bindings.procfs import ProcFs
from producers.bindings.resolution import resolve_claims
from producers.bindings.slurm.jobs import Scontrol, SlurmBindings, SlurmJob
from producers.runtime.config import load
from tests.support.waiting import HANG_S

A, B = "GPU-a", "GPU-b"
BOARDS = (GpuBoard(A), GpuBoard(B))
DOCKER = "/system.slice/docker-" + "ab" * 32 + ".scope"


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    return tmp_path / "proc"


def process(
    proc: Path, pid: int, command: str = "python", uid: int = 4_000_001, cgroup: str = "/user.slice", **env: str
) -> int:
    at = proc / str(pid)
    at.mkdir(parents=True)
    (at / "status").write_text(f"Name:\tx\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\n")
    (at / "cmdline").write_text(command.replace(" ", "\0") + "\0")
    (at / "comm").write_text("x\n")
    (at / "cgroup").write_text(f"0::{cgroup}\n")
    (at / "environ").write_text("\0".join(f"{name}={value}" for name, value in env.items()))
    return pid


def by_rules(proc: Path, running: Mapping[str, Sequence[int]], *rules: dict[str, str]) -> ClaimReport:
    return ProcessBindings(lambda: running, ProcFs(proc), [ProcessRule(**r) for r in rules]).read(BOARDS, 0)


# Plain processes.


def test_the_first_rule_that_matches_a_process_names_its_workload(proc: Path) -> None:
    pid = process(proc, 7, "python -m vllm.entrypoints.openai.api_server --model llama", cgroup=DOCKER)
    report = by_rules(
        proc, {A: [pid]}, {"command": "*triton*", "workload": "other"},
        {"command": "*vllm*", "workload": "chat", "tenant": "acme", "team": "s", "cost_centre": "47", "model": "l"},
        {"cgroup": "*docker*", "workload": "third"},
    )  # fmt: skip
    holder = WorkloadHolder(
        workload="chat",
        tenant="acme",
        source="processes",
        namespace="",
        pod="",
        container="ab" * 32,
        team="s",
        cost_centre="47",
        model="l",
        rule="rule 2",
    )
    assert report == ClaimReport((DeviceClaim(A, holder, "chat/acme"),), ())


@pytest.mark.parametrize(
    ("rule", "matches"),
    [
        ({"user": "4000001"}, True), ({"user": "root"}, False), ({"cgroup": "/system.slice/*"}, True),
        ({"container": "abab*"}, True), ({"container": "cd*"}, False), ({"command": "python", "user": "4*"}, True),
        ({"command": "python", "user": "5*"}, False),
    ],
)  # fmt: skip
def test_a_rule_matches_when_all_its_conditions_do(proc: Path, rule: dict[str, str], matches: bool) -> None:
    report = by_rules(proc, {A: [process(proc, 7, cgroup=DOCKER)]}, {**rule, "workload": "chat", "tenant": "acme"})
    assert [c.holder is not None for c in report.claims] == [matches]


def test_a_user_may_be_given_by_name(proc: Path) -> None:
    report = by_rules(proc, {A: [process(proc, 7, uid=0)]}, {"user": "root", "workload": "chat", "tenant": "acme"})
    assert report.claims[0].holder is not None


def test_workloads_have_equal_weight_regardless_of_their_number_of_processes(proc: Path) -> None:
    pids = [process(proc, n, "chat" if n < 4 else "code") for n in range(1, 5)]
    report = by_rules(proc, {A: pids}, {"command": "chat", "workload": "chat"}, {"command": "code", "workload": "code"})
    held, _ = resolve_claims(BOARDS, report.claims, Binding("~n1"))
    assert [(s.binding.workload, s.weight) for s in held[A]] == [("chat", 1), ("code", 1)]


def test_a_process_without_a_rule_takes_an_unallocated_share_with_a_warning(proc: Path) -> None:
    pids = [process(proc, 1, "chat"), process(proc, 2, "mystery --api-key=secret"), 999]
    report = by_rules(proc, {A: pids}, {"command": "chat", "workload": "chat", "tenant": "acme"})
    held, _ = resolve_claims(BOARDS, report.claims, Binding("~n1"))
    assert [(s.binding.workload, s.weight) for s in held[A]] == [("chat", 1), ("~n1", 1)]
    assert [w.kind for w in report.warnings] == ["unknown_holder"]
    assert "secret" not in repr(report)


def test_a_gpu_without_a_process_is_left_to_the_next_source(proc: Path) -> None:
    assert by_rules(proc, {A: []}) == ClaimReport((), ())


@pytest.mark.parametrize(
    "rule",
    [{"workload": "chat"}, {"workload": "~x", "user": "a"}, {"workload": "", "user": "a"},
     {"workload": "chat", "user": "a", "tenant": "__idle__"}, {"workload": "chat", "pod": "x"}],
)  # fmt: skip
def test_an_empty_rule_or_one_with_an_invalid_name_is_refused(rule: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        ProcessRule(**rule)  # type: ignore[arg-type]


# Slurm.

V2 = "/system.slice/slurmstepd.scope/job_42/step_0/user/task_0"
V1 = "/slurm/uid_4000001/job_42/step_batch"
TRAIN = SlurmJob("train", "acme", 4_000_001)


class FakeController:
    """A controller that knows these jobs; with `away`, it does not answer."""

    def __init__(self, jobs: Mapping[int, SlurmJob], away: bool = False) -> None:
        self.jobs, self.away, self.calls = jobs, away, 0

    def job(self, number: int) -> SlurmJob:
        self.calls += 1
        if self.away or number not in self.jobs:
            raise Unavailable("scontrol is away", "wait")
        return self.jobs[number]


def by_slurm(proc: Path, pid: int, jobs: FakeController | None) -> ClaimReport:
    return SlurmBindings(lambda: {A: [pid]}, ProcFs(proc), jobs).read(BOARDS, 0)


@pytest.mark.parametrize("cgroup", [V1, V2])
def test_a_job_is_known_by_its_control_group_and_its_tenant_is_the_account(proc: Path, cgroup: str) -> None:
    report = by_slurm(proc, process(proc, 7, cgroup=cgroup), FakeController({42: TRAIN}))
    holder = WorkloadHolder("acme/train", "acme", "slurm", rule="account and name")
    assert report == ClaimReport((DeviceClaim(A, holder, "acme/train/acme"),), ())


def test_without_a_controller_a_job_is_known_by_its_number_and_has_no_tenant(proc: Path) -> None:
    report = by_slurm(proc, process(proc, 7, cgroup=V2), None)
    assert report.claims[0].holder == WorkloadHolder("job-42", "", "slurm", rule="job's number")
    assert [w.kind for w in report.warnings] == ["no_tenant"]


def test_a_process_outside_of_any_job_is_ignored(proc: Path) -> None:
    assert by_slurm(proc, process(proc, 7), FakeController({42: TRAIN})) == ClaimReport((), ())


@pytest.mark.parametrize("cgroup", ["/user.slice/user-1000.slice/slurm/job_42", "/system.slice/x.service/job_42"])
def test_a_control_group_that_a_user_could_have_made_is_no_job(proc: Path, cgroup: str) -> None:
    assert by_slurm(proc, process(proc, 7, cgroup=cgroup), FakeController({42: TRAIN})) == ClaimReport((), ())


def test_the_environment_of_a_process_is_believed_if_the_job_is_its_users(proc: Path) -> None:
    pid = process(proc, 7, SLURM_JOB_ID="42", SLURM_JOB_ACCOUNT="victim")
    report = by_slurm(proc, pid, FakeController({42: TRAIN}))
    assert [c.holder.tenant for c in report.claims if c.holder] == ["acme"]


@pytest.mark.parametrize(
    "jobs", [FakeController({42: SlurmJob("train", "victim", 4_000_002)}), FakeController({}), None]
)
def test_an_unconfirmed_job_id_in_the_environment_is_reported_and_ignored(
    proc: Path, jobs: FakeController | None
) -> None:
    report = by_slurm(proc, process(proc, 7, SLURM_JOB_ID="42"), jobs)
    assert report.claims == ()
    assert [w.kind for w in report.warnings] == ["unverified"]


@pytest.mark.parametrize("number", ["9" * 5_000, "42x", "-42", "\u0664\u0662", "", "4 2", "1e400", "NaN"])
def test_an_invalid_job_id_does_not_affect_other_processes(proc: Path, number: str) -> None:
    bad = process(proc, 7, SLURM_JOB_ID=number, cgroup=f"/slurm/uid_1/job_{number}/step_0")
    good = process(proc, 8, cgroup=V2)
    report = SlurmBindings(lambda: {A: [bad, good]}, ProcFs(proc), FakeController({42: TRAIN})).read(BOARDS, 0)
    assert [c.holder.workload for c in report.claims if c.holder] == ["acme/train"]


def test_an_unknown_job_holds_its_gpu_without_a_name_until_the_controller_knows_it(proc: Path) -> None:
    jobs = FakeController({42: TRAIN}, away=True)
    pid = process(proc, 7, cgroup=V2)
    slurm = SlurmBindings(lambda: {A: [pid], B: [pid]}, ProcFs(proc), jobs)
    report = slurm.read(BOARDS, 0)
    assert [(c.device, c.holder) for c in report.claims] == [(A, None), (B, None)]
    assert {w.kind for w in report.warnings} == {"unknown_holder"}
    assert jobs.calls == 1, "one wait a look"
    jobs.away = False
    for _ in range(3):
        assert all(c.holder for c in slurm.read(BOARDS, 10_000).claims)
    assert jobs.calls == 2, "a job's name is remembered"


@pytest.mark.parametrize(
    ("job", "named", "kind"),
    [
        (SlurmJob("a\nb", "acme", 1), ("acme/job-42", "acme"), "bad_name"),
        (SlurmJob("train", "__idle__", 1), ("job/train", ""), "bad_name"),
        (SlurmJob("train", "", 1), ("job/train", ""), "bad_name"),
    ],
)
def test_an_invalid_name_is_reported(proc: Path, job: SlurmJob, named: tuple[str, str], kind: str) -> None:
    report = by_slurm(proc, process(proc, 7, cgroup=V2), FakeController({42: job}))
    holder = report.claims[0].holder
    assert holder is not None
    assert (holder.workload, holder.tenant) == named
    assert [w.kind for w in report.warnings] == [kind]


def script(tmp_path: Path, body: str) -> Path:
    path = tmp_path / "scontrol"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def test_scontrol_is_called_for_json(tmp_path: Path) -> None:
    answer = {"jobs": [{"job_id": 42, "name": "x UserId=bob(1) Account=victim", "account": "acme", "user_id": 7}]}
    (tmp_path / "answer").write_text(json.dumps(answer))
    command = script(tmp_path, f'[ "$*" = "show job 42 --json" ] && cat {tmp_path}/answer')
    assert Scontrol(command, timeout_s=HANG_S).job(42) == SlurmJob("x UserId=bob(1) Account=victim", "acme", 7)


@pytest.mark.parametrize(
    "body", ["exit 1", "echo '{}'", "echo no json", "exec sleep 30", "printf '[%.0s' $(seq 99999)", "printf '\\377'"]
)
def test_a_scontrol_that_hangs_times_out_with_a_report(tmp_path: Path, body: str) -> None:
    with pytest.raises(Unavailable, match="does not say what job 42 is"):
        Scontrol(script(tmp_path, body), timeout_s=0.2).job(42)


def test_a_missing_scontrol_is_reported(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="FileNotFoundError"):
        Scontrol(tmp_path / "scontrol").job(42)


def test_the_test_process_itself_can_be_looked_up() -> None:
    info = ProcFs(Path("/proc")).process(os.getpid())
    assert info is not None
    assert (info.uid, "python" in info.command or "pytest" in info.command) == (os.getuid(), True)


# Configuration.


@pytest.mark.parametrize(
    ("setting", "means"),
    [
        ("kubernetes", ("kubernetes",)),
        ("slurm, processes", ("slurm", "processes")),
        ('["slurm"]', ("slurm",)),
    ],
)
def test_a_source_is_one_name_or_several(setting: str, means: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATTLOG_BINDINGS_SOURCE", setting)
    assert load(BindingsConfig).source == means


def test_an_unknown_source_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATTLOG_BINDINGS_SOURCE", "mesos")
    with pytest.raises(BadSetting, match=r"produce\.bindings\.source\.0: 'mesos'"):
        load(BindingsConfig)


def test_the_default_source_is_the_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert load(BindingsConfig).source == ("settings",)


# Names of control groups.

SLUID = "sEKNKTV3WPV500"
POD = "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1234.slice/cri-containerd-abcd.scope"
SCOPES = {
    "26.05": "/system.slice/slurmstepd.scope",
    "several slurmd": "/system.slice/n1_slurmstepd.scope",
    "another slice": "/hpc.slice/hpc-slurm.slice/slurmstepd.scope",
    "in a pod": f"{POD}/system.slice/slurmstepd.scope",
    "in a pod by cgroupfs": "/kubepods/burstable/pod1234/abcd/system.slice/slurmstepd.scope",
    "in a pod of kind": f"/kubelet.slice/kubelet-kubepods.slice{POD.removeprefix('/kubepods.slice')}/slurmstepd.scope",
    "from another namespace": "/../../system.slice/slurmstepd.scope",
}


@pytest.mark.parametrize("scope", SCOPES.values(), ids=SCOPES)
def test_a_job_is_known_by_its_number_in_any_scope_of_slurmstepd(proc: Path, scope: str) -> None:
    report = by_slurm(proc, process(proc, 7, cgroup=f"{scope}/job_42/step_0/user/task_0"), FakeController({42: TRAIN}))
    assert [c.holder.workload for c in report.claims if c.holder] == ["acme/train"]


@pytest.mark.parametrize("cgroup", ["/slurm_n1/uid_4000001/job_42/step_0", f"{POD}/slurm/uid_4000001/job_42/step_0"])
def test_a_job_of_the_first_hierarchy_is_known_too(proc: Path, cgroup: str) -> None:
    """slurmd that is one of several: https://github.com/PrincetonUniversity/jobstats/issues/61."""
    report = by_slurm(proc, process(proc, 7, cgroup=cgroup), FakeController({42: TRAIN}))
    assert [c.holder.workload for c in report.claims if c.holder] == ["acme/train"]


@pytest.mark.parametrize("scope", SCOPES.values(), ids=SCOPES)
def test_a_sluid_is_resolved_by_the_title_of_the_jobs_slurmstepd(proc: Path, scope: str) -> None:
    """Slurm 26.05: https://github.com/guilbaults/slurm-job-exporter/issues/66."""
    pid = process(proc, 7, cgroup=f"{scope}/{SLUID}/step_0/user/task_0")
    process(proc, 8, "slurmstepd: [42.extern]", uid=0, cgroup=f"{scope}/{SLUID}/step_extern/slurm")
    process(proc, 9, "slurmstepd: [43.0]", uid=0, cgroup=f"{scope}/sEKNKTV3WPV501/step_0/slurm")
    report = by_slurm(proc, pid, FakeController({42: TRAIN}))
    assert [c.holder.workload for c in report.claims if c.holder] == ["acme/train"]
    assert report.warnings == ()


def test_processes_are_searched_once_for_a_job(proc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scope = SCOPES["26.05"]
    pids = [process(proc, pid, cgroup=f"{scope}/{SLUID}/step_0/user/task_0") for pid in (7, 8)]
    process(proc, 9, "slurmstepd: [42.0]", uid=0, cgroup=f"{scope}/{SLUID}/step_0/slurm")
    files, searches = ProcFs(proc), []
    search = files.processes
    monkeypatch.setattr(files, "processes", lambda: searches.append(1) or search())
    slurm = SlurmBindings(lambda: {A: pids}, files, None)
    for now_ms in (0, 10_000):
        assert {c.holder.workload for c in slurm.read(BOARDS, now_ms).claims if c.holder} == {"job-42"}
    assert len(searches) == 1


FALSE_DAEMONS = {
    "of a user": ("slurmstepd: [42.0]", 4_000_001, "step_0/slurm"),
    "in a user's group": ("slurmstepd: [42.0]", 0, "step_0/user/task_0/slurm"),
    "without a title": ("/usr/sbin/slurmstepd", 0, "step_0/slurm"),
    "of another name": ("my-slurmstepd: [42.0]", 0, "step_0/slurm"),
}


@pytest.mark.parametrize(("command", "uid", "group"), FALSE_DAEMONS.values(), ids=FALSE_DAEMONS)
def test_a_sluid_that_nothing_resolves_is_named_and_its_gpu_is_unallocated(
    proc: Path, command: str, uid: int, group: str
) -> None:
    scope = SCOPES["26.05"]
    pid = process(proc, 7, cgroup=f"{scope}/{SLUID}/step_0/user/task_0")
    process(proc, 8, command, uid=uid, cgroup=f"{scope}/{SLUID}/{group}")
    report = by_slurm(proc, pid, FakeController({42: TRAIN}))
    assert report.claims == (DeviceClaim(A, None, SLUID),)
    assert [(w.kind, SLUID in w.message) for w in report.warnings] == [("unknown_holder", True)]


@pytest.mark.parametrize(
    "cgroup",
    [
        f"/user.slice/user-1000.slice/slurmstepd.scope/{SLUID}/step_0", "/user.slice/slurmstepd.scope/job_42",
        f"/system.slice/slurmstepd.scope/{SLUID.lower()}/step_0", "/system.slice/slurmstepd.scope/system",
        "/system.slice/myslurmstepd.scope.d/x/slurmstepd.scope/job_42",
    ],
)  # fmt: skip
def test_a_group_that_slurm_did_not_name_is_no_job(proc: Path, cgroup: str) -> None:
    process(proc, 8, "slurmstepd: [42.0]", uid=0, cgroup=f"{cgroup}/step_0/slurm")
    assert by_slurm(proc, process(proc, 7, cgroup=cgroup), FakeController({42: TRAIN})) == ClaimReport((), ())
