"""Dimensions of requests before they are sent: users as keyed hashes, and at most so many values of each dimension.

A client may choose values, and each one that the ledger keeps has rows of its own in every window. So they are bounded
at the source. The log holds what was sent, so a replay gives the same rows.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from prometheus_client import CollectorRegistry, Counter

from contracts.errors import BadSetting
from contracts.private_folder import make_private_folder
from contracts.settings import Settings
from producers.runtime.batching import RequestRow

OTHER = "~other"
"""Value of a dimension in place of those beyond the bound."""
KEY_FILE = "user.key"
_KEY_BYTES = 32
_HASH_HEX = 32
"""Digits of a user's hash: 128 bits, so that no two of a trillion users share one."""
_CACHED_USERS = 65_536

UserIdentity = Literal["hash", "plain", "none"]


class DimensionValues:
    """Bounds the values of dimensions and hides users. One for each process, as its bounds are.

    `key` gives the key of users' hashes; it is asked for when a request names a user first.
    """

    def __init__(
        self, identity: UserIdentity, key: Callable[[], bytes], bounded: Sequence[str], max_values: int,
        registry: CollectorRegistry,
    ) -> None:  # fmt: skip
        self._identity, self._key, self._max_values = identity, key, max_values
        self._known: Mapping[str, set[str]] = {name: set() for name in bounded}
        self._full: set[str] = set()
        """Dimensions that reached their bound."""
        self._noted: set[str] = set()
        self._hash = lru_cache(_CACHED_USERS)(self._hash_user)
        self._beyond = Counter(
            "wattlog_producer_dimension_values_beyond",
            "Requests whose value of a dimension was replaced, because the dimension has too many values",
            ("dimension",),
            registry=registry,
        )

    def bound(self, row: RequestRow) -> RequestRow:
        """Return a request with its user hidden and each value within the bounds."""
        changed: dict[str, Any] = {}
        if row.user and self._identity != "plain":
            changed["user"] = self._hash(row.tenant, row.user) if self._identity == "hash" else ""
        for name, known in self._known.items():
            value = changed.get(name, getattr(row, name))
            if not value or value in known:
                continue
            if len(known) < self._max_values:
                known.add(value)
            else:
                changed[name] = OTHER
                self._full.add(name)
                self._beyond.labels(name).inc()
        return row._replace(**changed) if changed else row

    def new_notes(self) -> list[str]:
        """Return a message for each dimension that reached its bound and that no earlier call returned."""
        full = sorted(self._full - self._noted)
        self._noted.update(full)
        return [
            f"{name} has more than {self._max_values} values: further ones count as {OTHER!r}; raise the setting "
            f"max_dimension_values, or leave {name} out of ledger_dimensions"
            for name in full
        ]

    def _hash_user(self, tenant: str, user: str) -> str:
        text = f"{tenant}\0{user}".encode()
        return hmac.new(self._key(), text, hashlib.sha256).hexdigest()[:_HASH_HEX]


def dimension_values(settings: Settings, registry: CollectorRegistry) -> DimensionValues:
    """Return the bounds of the settings. The key of users' hashes is `user_key`, or one that this machine keeps."""
    secret = settings.user_key.get_secret_value().encode() if settings.user_key else b""
    return DimensionValues(
        settings.user_identity,
        (lambda: secret) if secret else (lambda: _kept_key(settings.data / KEY_FILE)),
        settings.ledger_dimensions,
        settings.max_dimension_values,
        registry,
    )


def _kept_key(path: Path) -> bytes:
    """Return the key in this file, which is made on the first call. Only its owner may read it.

    Raises BadSetting for a file that holds no key.
    """
    if not path.exists():
        make_private_folder(path.parent)
        draft = path.with_name(f"{path.name}.{os.getpid()}")
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(secrets.token_hex(_KEY_BYTES))
        with suppress(FileExistsError):  # Of two processes that start together, the first one's key counts.
            os.link(draft, path)
        draft.unlink()
    key = path.read_text("ascii").strip()
    if len(key) < _KEY_BYTES:
        raise BadSetting("user_key", str(path), "is too short for a key: delete the file, or set user_key")
    return key.encode()
