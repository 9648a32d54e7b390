"""Opens clients from a DSN, and turns failures to open one into errors with a hint."""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import clickhouse_connect
from clickhouse_connect.driver.exceptions import ClickHouseError

from contracts.errors import BadSetting, Unavailable
from contracts.private_folder import make_private_folder

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

CLIENT_SETTINGS: Mapping[str, Any] = {
    # Every key of every table carries its partition's time, so parts of other partitions never hold the same key.
    "do_not_merge_across_partitions_select_final": 1,
    # Text without a zone means UTC, wherever this process runs.
    "session_timezone": "UTC",
    # A history of some months in one insert touches as many day partitions.
    "max_partitions_per_insert_block": 4_000,
    "output_format_arrow_string_as_string": 1,
    # No read returns more; a larger answer is an error rather than an exhausted memory.
    "max_result_rows": 6_000_000,
}

IN_USE = "in_use"
"""Reason of the error for an embedded warehouse that another process has open."""
_DATABASE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")


@dataclass(frozen=True, slots=True)
class Opener:
    """Opens clients of one warehouse."""

    address: str
    """The address without user and password."""
    database: str
    embedded: bool
    arguments: Mapping[str, Any] = field(repr=False)

    def open(self, **settings: int) -> Client:
        """Return a client whose statements run in `database`, in UTC, with more settings of the engine.

        Raises Unavailable with a hint.
        """
        if self.embedded:
            _make_folder(self.arguments["path"])
            self._check_unlocked(self.arguments["path"])
        try:
            client = clickhouse_connect.get_client(
                **self.arguments, settings={**CLIENT_SETTINGS, **settings}, tz_mode="aware"
            )
        except (ClickHouseError, ImportError, OSError) as error:
            raise self._unavailable(error) from error
        client.server_tz = UTC
        client.database = self.database  # not passed to get_client: it may not exist before the first migration
        return client

    def _check_unlocked(self, path: str) -> None:
        """Raise Unavailable for a folder that another process has open: chdb would print a line of its own, too."""
        holder = _holder(path)
        if holder is not None and holder != os.getpid() and _locked(path):
            raise _in_use(path)

    def _unavailable(self, error: Exception) -> Unavailable:
        text = str(error).partition("\n")[0][:400]
        if not self.embedded:
            hint = "Check that the server runs, the address, the user and WATTLOG_WAREHOUSE_PASSWORD."
            return Unavailable(f"The warehouse at {self.address} cannot be opened: {text}", hint)
        path = self.arguments["path"]
        if isinstance(error, ImportError):
            return Unavailable("The embedded warehouse needs chdb", "Install wattlog[server], or give an http(s) DSN.")
        if "already initialized with path" in text:
            return Unavailable(
                f"This process has another embedded warehouse open, so {path} cannot be opened beside it",
                "A process may open one folder: close the other first.",
            )
        if _locked(path):
            return _in_use(path)
        return Unavailable(f"{path} cannot be opened as a warehouse: {text}", "Check that the folder is writable.")


def opener(dsn: str, *, database: str, password: str | None) -> Opener:
    """Parse a DSN. Raises BadSetting that names the mistake (and never shows a password)."""
    scheme, separator, path = dsn.partition("://")
    if separator and scheme == "chdb":
        if not path.startswith("/") or "?" in path:
            raise BadSetting("warehouse_dsn", dsn, "give an absolute folder without '?': chdb:///absolute/path")
        return Opener(
            address=f"chdb://{path}",
            database=_database(database),
            embedded=True,
            arguments={"interface": "chdb", "path": path},
        )
    if not separator or scheme not in ("http", "https"):
        raise BadSetting("warehouse_dsn", scheme, "give chdb:///absolute/path or http(s)://user@host:port/database")
    parts = urlsplit(dsn)
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host:
        raise BadSetting(
            "warehouse_dsn", scheme, "give a host (and a port from 1 to 65535): http://user@host:8123/wattlog"
        )
    port = port or (8443 if scheme == "https" else 8123)
    in_path = unquote(parts.path.strip("/"))
    if parts.query or parts.fragment:
        raise BadSetting("warehouse_dsn", f"?{parts.query}", "options in the DSN are not read: leave them out")
    arguments: dict[str, Any] = {
        "interface": scheme, "host": host, "port": port, "username": unquote(parts.username or "default"),
        "password": password or unquote(parts.password or ""),
        # Settings ride on every request, so no session is needed; a pool of its own is closed with the client.
        "autogenerate_session_id": False, "dedicated_pool": True, "connect_timeout": 5,
    }  # fmt: skip
    return Opener(
        address=f"{scheme}://{host}:{port}",
        database=_database(in_path or database),
        embedded=False,
        arguments=arguments,
    )


def _database(name: str) -> str:
    if not _DATABASE.fullmatch(name):
        raise BadSetting("warehouse_dsn", name, "a database's name has letters, digits and _ only, at most 63")
    return name


def _make_folder(path: str) -> None:
    try:
        make_private_folder(Path(path))
    except OSError as error:
        raise Unavailable(f"{path} cannot be created: {error.strerror}", "Give a writable folder.") from error


def _locked(path: str) -> bool:
    """Return whether another process has the folder open: ClickHouse keeps a flock on `status` for as long."""
    try:
        with (Path(path) / "status").open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _holder(path: str) -> int | None:
    """Return the id of the process that opened the folder last, as ClickHouse wrote it."""
    with suppress(OSError):
        match = re.search(r"PID: (\d+)", (Path(path) / "status").read_text(encoding="utf-8", errors="replace"))
        if match:
            return int(match[1])
    return None


def _in_use(path: str) -> Unavailable:
    holder = _holder(path)
    process = f" (process {holder})" if holder is not None else ""
    return Unavailable(
        f"{path} is open in another process{process}, and one process may open an embedded warehouse",
        "Stop the other one, ask its API (`wattlog up` and `demo` have one), or use a ClickHouse server "
        "(WATTLOG_WAREHOUSE_DSN=http://...).",
        reason=IN_USE,
    )
