"""`wattlog produce sacct`: node energy of Slurm's finished jobs, by its accounting."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic_settings import SettingsConfigDict

from contracts.errors import BadSetting, Unavailable
from producers.api import Environment, Finding, Kind, Plugin, PolledSource
from producers.meters.sacct.command import read_saved, run_sacct
from producers.meters.sacct.job_records import JobRun
from producers.meters.sacct.source import SacctSource
from producers.runtime.config import ProducerConfig


class AccountRule(BaseModel):
    """A rule: jobs whose account, user and partition match are this tenant's. Patterns may hold `*` and `?`."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    account: str = Field("*", description="Account.")
    user: str = Field("*", description="User.")
    partition: str = Field("*", description="Partition.")
    tenant: str = Field(description="Who pays; empty: no tenant.")

    def matches(self, run: JobRun) -> bool:
        pairs = (run.account, self.account), (run.user, self.user), (run.partition, self.partition)
        return all(fnmatchcase(value, pattern) for value, pattern in pairs)


class SacctConfig(ProducerConfig):
    """Options of `wattlog produce sacct`."""

    model_config = SettingsConfigDict(env_prefix="WATTLOG_SACCT_")
    name: ClassVar[str] = "sacct"
    command: tuple[str, ...] = Field(("sacct",), min_length=1, description="Command, with options of your own.")
    file: Path | None = Field(None, description="Saved output to read instead.")
    exclusive: tuple[str, ...] = Field(
        (), description="Partitions whose jobs have their nodes to themselves (OverSubscribe=EXCLUSIVE)."
    )
    tenant: Literal["account", "user"] = Field("account", description="What names the tenant where no rule matches.")
    rules: tuple[AccountRule, ...] = Field((), description="Rules for tenants; the first match wins.")
    every_s: float = Field(600.0, ge=60, le=86_400, description="Seconds between two reads.")
    look_back_h: float = Field(48.0, ge=1, le=2_160, description="Hours of accounting that each read looks back.")
    timeout_s: float = Field(60.0, ge=1, le=600, description="Seconds after which the command is ended.")
    max_node_w: float = Field(20_000.0, ge=100, le=1_000_000, description="More watts than any node draws.")


def _tenant(options: SacctConfig, run: JobRun) -> str:
    rule = next((rule for rule in options.rules if rule.matches(run)), None)
    if rule is not None:
        return rule.tenant
    return run.user if options.tenant == "user" else run.account


def sacct_source(options: SacctConfig, environment: Environment) -> SacctSource:
    """Build the source. Raises BadSetting where both a command and a file are named."""
    if options.file and "command" in options.model_fields_set:
        raise BadSetting("produce.sacct.file", str(options.file), "name it or `command`, not both")
    file, command, timeout_s = options.file, options.command, options.timeout_s
    return SacctSource(
        name=str(file or command[0]),
        cluster=environment.settings.cluster,
        read=(lambda since_s: read_saved(file)) if file else partial(_run, command, timeout_s),
        tenant_of=partial(_tenant, options),
        exclusive=frozenset(options.exclusive),
        is_saved=file is not None,
        every_ms=round(1000 * options.every_s),
        look_back_s=round(3600 * options.look_back_h),
        max_node_w=options.max_node_w,
    )


def _run(command: Sequence[str], timeout_s: float, since_s: int) -> bytes:
    return run_sacct(command, since_s, timeout_s)


def build(options: SacctConfig, environment: Environment) -> Sequence[PolledSource]:
    """Build the source of the configured accounting."""
    return [sacct_source(options, environment)]


def check(options: SacctConfig, environment: Environment) -> Iterator[Finding]:
    """Yield how many jobs the accounting has and how many of them count, or why it cannot be read."""
    if not options.model_fields_set:
        return
    source = sacct_source(options, environment)
    try:
        result = source.collect(None, environment.clock)
    except Exception as error:
        yield source.name, error
        return
    rows = sum(len(item.batch) for item in result.batches)
    left_out = "".join(f"; {note}" for note in result.notes)
    yield source.name, f"{rows:,} jobs that ended have energy{left_out}"
    if result.refused:
        yield source.name, Unavailable(f"{len(result.refused):,} refused: {result.refused[0]}", "The others count.")


PLUGIN = Plugin(
    "sacct", Kind.POLLED, "node energy of Slurm's finished jobs, by its accounting", build, SacctConfig, check,
)  # fmt: skip
