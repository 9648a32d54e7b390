"""Entries of commands in the audit log: who ran what. The actor is the operating system's user, at its host."""

from __future__ import annotations

import os
import pwd
import shlex
import socket
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from contracts.settings import Settings

_exporting: ContextVar[Settings | None] = ContextVar("exporting", default=None)


def record(settings: Settings, action: str, subject: str, outcome: str, **details: str | int) -> None:
    """Append an entry to the audit log of the settings."""
    from access.audit_log import AuditLog

    AuditLog(settings.audit_log_path).record(actor(), action, subject, outcome, **details)


def recorded_change(
    settings: Settings, action: str, subject: str, **details: str | int
) -> AbstractContextManager[dict[str, str | int]]:
    """Return a block whose change is recorded before it is made (`AuditLog.change`)."""
    from access.audit_log import AuditLog

    return AuditLog(settings.audit_log_path).change(actor(), action, subject, **details)


@contextmanager
def exports_recorded(settings: Settings) -> Iterator[None]:
    """Record what `record_export` tells of in the block, which reads the ledger of the settings."""
    token = _exporting.set(settings)
    try:
        yield
    finally:
        _exporting.reset(token)


def record_export(rows: int | None) -> None:
    """Append an entry about CSV of the ledger, before it is written: its reader may leave at any time.

    `rows` is None where rows are printed as they are read.
    """
    if settings := _exporting.get():
        command, *words = sys.argv[1:] or [""]
        record(
            settings, "export", command, "begun", query=shlex.join(words), **({} if rows is None else {"rows": rows})
        )


def audit_head(settings: Settings) -> str:
    """Return the hash of the audit log's newest entry, which holds all before it."""
    from access.audit_log import AuditLog

    return AuditLog(settings.audit_log_path).head()


def actor() -> str:
    """Return who runs the command: the operating system's user at its host."""
    try:
        user = pwd.getpwuid(os.getuid()).pw_name  # Not getpass, which believes the environment.
    except KeyError:  # A container's user need not have a name.
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"
