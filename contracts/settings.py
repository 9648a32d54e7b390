"""Settings: environment over file over default. `wattlog config` prints each one, its value and its origin.

Environment variables are `WATTLOG_` and the name in capitals. The file is TOML: `wattlog.toml` in the working
directory, or the path in `WATTLOG_CONFIG`. docs/settings.md lists all settings; a test compares it with this module.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from contracts.errors import BadInput
from contracts.fiscal_calendar import FiscalCalendar, parse_fiscal_calendar
from contracts.time_zones import zone_of
from contracts.toml_file import read_toml
from contracts.weak_secrets import is_published

PRODUCERS = "produce"
"""Table of the file that holds each producer's own options, `[produce.NAME]` (producers/runtime/config.py)."""


Dimension = Literal["user", "application", "feature", "provider", "region", "endpoint", "priority", "sender"]
"""Names of `contracts.events.DIMENSIONS`."""


class Settings(BaseSettings):
    """All settings. A name ends with its unit."""

    model_config = SettingsConfigDict(env_prefix="WATTLOG_", extra="forbid", frozen=True)

    data: Path = Field(Path(".wattlog"), description="Folder of the embedded warehouse, spools and other local data.")
    warehouse_dsn: str = Field(
        "",
        description="Address of the warehouse: chdb:///absolute/path (embedded), or "
        "http(s)://user@host:port/database. Empty: the embedded one under `data`.",
    )
    warehouse_password: SecretStr | None = Field(
        None, description="Password of the warehouse's user, kept out of the DSN."
    )
    durable: bool = Field(
        False,
        description="If true, the warehouse syncs every insert to disk before it acknowledges it, so that "
        "acknowledged rows survive a power loss; this costs milliseconds per insert. `wattlog migrate` and workers "
        "set it on the tables; false leaves the tables unchanged.",
    )

    question_timeout_s: int = Field(
        120, ge=1, le=86_400, description="Seconds that the warehouse gives a question before it is refused."
    )
    question_memory_mb: int = Field(
        4_096, ge=64, description="Megabytes that the warehouse gives a question before it is refused."
    )

    kafka_bootstrap: str = Field(
        "embedded",
        description="Addresses of the brokers, host:port[,host:port]. `embedded`: librdkafka's in-process "
        "broker, for demo and replay.",
    )
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="Protocol between clients and brokers."
    )
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "SCRAM-SHA-512", description="SASL mechanism, if the protocol uses SASL."
    )
    kafka_username: str = Field("", description="SASL user.")
    kafka_password: SecretStr | None = Field(None, description="SASL password.")
    kafka_ca_file: Path | None = Field(
        None,
        description="PEM file of the CA certificates that sign the brokers' certificates; empty: the system's CAs.",
    )
    transport: Literal["auto", "lean", "stock"] = Field(
        "auto",
        description="How Faust hands messages to workers. `lean`: the fetched lists as they are. `stock`: "
        "Faust's own way, message by message, at several times the CPU. `auto`: lean if it fits the installed "
        "Faust and aiokafka, else stock.",
    )
    kafka_group: str = Field(
        "wattlog",
        description="Consumer group of the workers. The job that stores usage has a group of its own: this name "
        "with `-usage` appended.",
    )
    session_timeout_ms: int = Field(
        20_000,
        ge=1_000,
        le=90_000,
        description="Session timeout of the consumer group: a worker that is silent for longer counts as dead, "
        "and others get its partitions. Brokers refuse less than their `group.min.session.timeout.ms` (6000 unless "
        "set).",
    )
    kafka_partitions: int = Field(
        12, ge=1, le=1024, description="Partitions of the topics that `wattlog migrate` creates."
    )
    kafka_partitions_before: tuple[int, ...] = Field(
        (),
        max_length=8,
        description="Numbers of partitions that the topics had before, for a new ledger from a log that is older than "
        "the last change: events may lie where they belonged then. A ledger that saw the change needs none.",
    )
    kafka_replication: int = Field(
        1, ge=1, le=9, description="Replicas of the topics that `wattlog migrate` creates; 3 in production."
    )

    window_ms: int = Field(
        10_000, ge=1_000, le=3_600_000, description="Length of a tumbling window; must divide an hour."
    )
    lateness_ms: int = Field(
        120_000, ge=0, le=86_400_000, description="How long a window stays open for late events, in event time."
    )
    skew_ms: int = Field(
        5_000,
        ge=0,
        le=600_000,
        description="Greatest difference allowed between producers' clocks. An event further in the future "
        "becomes a dead letter.",
    )
    idle_timeout_ms: int = Field(
        30_000,
        ge=100,
        le=3_600_000,
        description="A topic that is silent for longer no longer holds the watermark back.",
    )
    provisional_ms: int = Field(500, ge=100, le=600_000, description="Period at which provisional windows are updated.")
    batch_messages: int = Field(2_048, ge=1, le=65_536, description="Messages at which a worker's step is due.")
    batch_wait_ms: int = Field(20, ge=1, le=1_000, description="Longest wait of a worker for a full step.")
    max_open_rows: int = Field(
        1_500_000,
        ge=10_000,
        description="Bound on the rows in a worker's memory (open windows, late facts, uncommitted messages). "
        "Above it, the worker closes windows before their lateness has passed. docs/reliability.md gives the "
        "memory that this takes.",
    )
    idle_policy: Literal["by-work", "owner", "apart"] = Field(
        "by-work",
        description="Who pays for idle energy in a window with work: the tenants, by work (`by-work`), the "
        "workload's owner (`owner`), or nobody (`apart`: it is kept under `__idle__`).",
    )
    requests: Literal["all", "none"] = Field(
        "all",
        description="`all`: workers store single requests with their joules (`request_energy`, kept 30 days), "
        "more than half of all rows of a large fleet. `none`: they do not; ledger, bills and forecasts are the "
        "same. Set it to the same value for workers, audit and API. docs/warehouse.md describes the effect of a "
        "change on stored requests.",
    )

    ledger_dimensions: tuple[Dimension, ...] = Field(
        ("application", "feature", "provider", "region", "endpoint", "priority"),
        description="Dimensions of requests by which the ledger has rows of their own, so that bills can be grouped by "
        "them. The others are stored with single requests only. Each multiplies the ledger's rows by its number of "
        "values. Set it to the same value for all workers; a change applies to windows that are closed after it.",
    )

    max_dimension_values: int = Field(
        1_000, ge=1, le=1_000_000,
        description="Values of each dimension of the ledger that a producer tells apart. Requests with further ones "
        "count under `~other`; they are counted, and named in the log.",
    )  # fmt: skip
    user_identity: Literal["hash", "plain", "none"] = Field(
        "hash",
        description="How producers send the users of requests: as a keyed hash by tenant, as they are (`plain`), or "
        "not at all (`none`).",
    )
    user_key: SecretStr | None = Field(
        None, min_length=32,
        description="Key of users' hashes, 32 characters or more. Give all producers the same one, so that a user has "
        "one hash; without it each machine makes its own, in `data`/user.key.",
    )  # fmt: skip

    cluster: str = Field("local", description="Name of the producers' cluster.")
    node: str = Field("", description="Name of the producer's node; empty: the host's name.")
    workload: str = Field(
        "", description="Workload that occupies this node's GPUs; empty: none, the GPUs are unallocated."
    )
    owner: str = Field("", description="Tenant that pays when this node's workload is idle.")
    sample_hz: float = Field(1.0, gt=0, le=10, description="Readings per second of each GPU.")
    max_age_ms: int = Field(
        172_800_000,
        ge=60_000,
        le=31_622_400_000,
        description="How long ago an event that a sender posts may have ended (2 days); what is older is refused. "
        "Replays and sources that are read have no such bound; the windows that they restate are counted.",
    )
    publish_ms: int = Field(5_000, ge=100, le=300_000, description="Period at which a producer sends its events.")
    spool_mb: int = Field(
        256,
        ge=1,
        le=1_048_576,
        description="Bound on a producer's spool (`data`/spool), in megabytes: the events that the brokers have "
        "not acknowledged. When it is full, energy becomes coarser in memory, and logs and servers are not read "
        "further.",
    )

    api_host: str = Field(
        "127.0.0.1",
        description="Address that the API listens on. Any address other than loopback requires `api_jwt_key`, "
        "`oidc_issuer` or `keys_file`.",
    )
    api_port: int = Field(8787, ge=0, le=65_535, description="Port of the API and the web page; 0 picks a free one.")
    api_jwt_key: SecretStr | None = Field(
        None,
        description="Key that verifies bearer tokens: an HS256 secret of 32 bytes or more, or a PEM public key "
        "for RS256 or ES256.",
    )
    oidc_issuer: str = Field(
        "",
        description="Issuer of an OpenID Connect provider whose tokens the API and the receivers take. docs/access.md "
        "has Keycloak's, Entra's and Okta's.",
    )
    oidc_audience: str = Field("", description="Audience (`aud`) that its tokens must have. Needed with `oidc_issuer`.")
    oidc_jwks: str = Field("", description="Address of its keys; empty: the one that its discovery document names.")
    oidc_tenants_claim: str = Field(
        "tenants", description="Claim that names tenants: a text or a list. `a.b` is the member `b` of the claim `a`."
    )
    oidc_roles_claim: str = Field(
        "roles", description="Claim that names roles, such as `realm_access.roles`, `groups`."
    )
    oidc_scopes_claim: str = Field(
        "scope scp", description="Claims that name scopes, separated by spaces; empty: scopes are not read."
    )
    oidc_tenant_prefix: str = Field(
        "", description="Beginning of the texts that name tenants, which is cut off; texts without it are not read."
    )
    oidc_role_prefix: str = Field(
        "", description="Beginning of the texts that name roles, which is cut off; texts without it are not read."
    )
    keys_file: Path | None = Field(
        None,
        description="File of API keys, which `wattlog key` writes. With it the API and the receivers take keys, and no "
        "caller without a credential. They read it again when it changes.",
    )
    audit_log: Path | None = Field(
        None,
        description="File to which changed keys and prices, refused callers, questions in SQL and exports are "
        "appended, each entry chained to the one before; empty: `data`/audit.jsonl.",
    )
    metrics_host: str = Field("127.0.0.1", description="Address on which a worker or producer serves /metrics.")
    metrics_port: int = Field(
        0, ge=0, le=65_535, description="Port on which a worker or producer serves /metrics; 0: it does not."
    )
    currency: str = Field("USD", pattern="^[A-Z]{3}$", description="Currency of the prices.")
    time_zone: str = Field(
        "UTC",
        description="IANA name of the zone of days and months in bills, unless `--tz` or `tz=` names another. "
        "Times are stored in UTC.",
    )
    fiscal_calendar: str = Field(
        "01-01",
        description="Fiscal year of periods such as FY2027-Q1 and FY2027-P01: its first day, such as 04-01, or weeks, "
        "such as `4-4-5 from monday nearest 02-01`. It has the name of the calendar year in which it ends, unless "
        "` named by start` follows.",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="Lowest level of log messages that are written to stderr."
    )

    @field_validator("time_zone")
    @classmethod
    def _is_a_zone(cls, value: str) -> str:
        try:
            return zone_of(value).key
        except BadInput as error:
            raise ValueError(error.fix) from None

    @field_validator("fiscal_calendar")
    @classmethod
    def _is_a_calendar(cls, value: str) -> str:
        try:
            parse_fiscal_calendar(value)
        except BadInput as error:
            raise ValueError(error.fix) from None
        return value

    @field_validator("warehouse_password", "kafka_password")
    @classmethod
    def _is_no_example(cls, password: SecretStr | None) -> SecretStr | None:
        if password is not None and is_published(password.get_secret_value()):
            raise ValueError("it is that of an example, which anybody knows: take the output of openssl rand -hex 32")
        return password

    @model_validator(mode="after")
    def _window_divides_an_hour(self) -> Settings:
        if 3_600_000 % self.window_ms:
            raise ValueError(f"window_ms: {self.window_ms} does not divide an hour; try 10000 or 60000")
        return self

    @property
    def fiscal(self) -> FiscalCalendar:
        """The fiscal calendar of periods."""
        return parse_fiscal_calendar(self.fiscal_calendar)

    @property
    def dsn(self) -> str:
        """DSN of the warehouse; by default that of the embedded one."""
        return self.warehouse_dsn or f"chdb://{(self.data / 'warehouse').absolute()}"

    @property
    def audit_log_path(self) -> Path:
        """Path of the audit log."""
        return self.audit_log or self.data / "audit.jsonl"

    @property
    def embedded_broker(self) -> bool:
        """True if the broker is the one in this process."""
        return self.kafka_bootstrap == "embedded"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, _Settings(settings_cls, settings_file())


def settings_file() -> Path:
    """Return the path of the settings file."""
    return Path(os.environ.get("WATTLOG_CONFIG", "wattlog.toml"))


class _Settings(TomlConfigSettingsSource):
    """Settings file without the producers' own options."""

    def _read_file(self, file_path: Any) -> dict[str, Any]:
        return {k: v for k, v in read_toml(file_path).items() if k != PRODUCERS}
