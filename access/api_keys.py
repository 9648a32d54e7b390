"""API keys: their text, the record that is stored of each, and the file's contents. Pure.

A key is `wl_`, 32 random bytes and a checksum, in base 62. Only its SHA-256 is stored. A key has 256 random bits, so a
slow hash would protect nothing that the fast one does not.
"""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from contracts.callers import SEND, Caller, Scope, is_tenant_name
from contracts.errors import BadInput
from contracts.units import epoch_ms, rfc3339

PREFIX = "wl_"
SECRET_BYTES = 32
MAX_KEYS = 1_000
"""Keys of one file, those that have ended included."""
MAX_KEY_TENANTS = 1_000
ID_CHARS = 12
DAY_MS = 86_400_000
DEFAULT_DAYS, MAX_DAYS = 90, 365
ENDED_FOR_MS = 90 * DAY_MS
"""How long a key that has ended stays in the file."""
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_SECRET_CHARS, _SUM_CHARS = 43, 6
_TEXT = re.compile(rf"{PREFIX}[0-9A-Za-z]{{{_SECRET_CHARS + _SUM_CHARS}}}")
_VERSION = 1


@dataclass(frozen=True, slots=True)
class ApiKey:
    """Record of a key. `id` names it in commands and logs; `digest` is the SHA-256 of its text, in hex."""

    id: str
    name: str
    digest: str
    scopes: frozenset[Scope]
    tenants: frozenset[str] | None
    """The tenants that it may act for; None: all."""
    created_ms: int
    expires_ms: int
    revoked_ms: int | None = None

    @property
    def caller(self) -> Caller:
        return Caller(self.name, self.tenants, self.scopes)

    def ended_ms(self) -> int:
        """Return when it ends, or ended."""
        return self.expires_ms if self.revoked_ms is None else min(self.expires_ms, self.revoked_ms)

    def state(self, now_ms: int) -> str:
        """Return `valid`, `revoked` or `expired`."""
        if self.revoked_ms is not None:
            return "revoked"
        return "valid" if now_ms < self.expires_ms else "expired"


def key_text(secret: bytes) -> str:
    """Return the text of the key with these random bytes."""
    body = PREFIX + _base62(int.from_bytes(secret), _SECRET_CHARS)
    return body + _checksum(body)


def is_key_text(text: str) -> bool:
    """Return True if a text is a key that somebody may have made: its checksum is right."""
    return bool(_TEXT.fullmatch(text)) and text[-_SUM_CHARS:] == _checksum(text[:-_SUM_CHARS])


def digest_of(text: str) -> str:
    """Return what is stored of a key."""
    return hashlib.sha256(text.encode()).hexdigest()


def new_key(
    name: str, scopes: Iterable[str], tenants: Sequence[str] | None, days: int, now_ms: int, secret: bytes
) -> ApiKey:
    """Return the record of a new key. Raises BadInput that names the field."""
    digest = digest_of(key_text(secret))
    key = ApiKey(
        id=digest[:ID_CHARS], name=name, digest=digest, scopes=_scopes(scopes),
        tenants=None if tenants is None else frozenset(tenants), created_ms=now_ms, expires_ms=now_ms + days * DAY_MS,
    )  # fmt: skip
    _check(key)
    if not 1 <= days <= MAX_DAYS:
        raise BadInput("days", days, f"give 1 to {MAX_DAYS}")
    return key


def with_key(keys: Sequence[ApiKey], key: ApiKey) -> list[ApiKey]:
    """Return the keys with a new one, without those that ended long ago.

    A second valid key of one name replaces the first soon, so it must have the same rights. Raises BadInput.
    """
    others = [other for other in keys if other.ended_ms() > key.created_ms - ENDED_FOR_MS]
    for other in others:
        same = (other.scopes, other.tenants) == (key.scopes, key.tenants)
        if other.name == key.name and other.state(key.created_ms) == "valid" and not same:
            raise BadInput(
                "name", key.name, "a valid key of this name has other rights: revoke it, or use another name"
            )
    if key.id in (other.id for other in others):
        raise BadInput("key", key.id, "another key has this id: create it again")
    if len(others) >= MAX_KEYS:
        raise BadInput("keys_file", len(others), f"it has at most {MAX_KEYS} keys: use another file")
    return [*others, key]


def without_keys(keys: Sequence[ApiKey], which: str, now_ms: int) -> tuple[list[ApiKey], list[ApiKey]]:
    """Return the keys with those of an id or a name revoked, and the ones that this revokes. Raises BadInput."""
    named = [key for key in keys if which in (key.id, key.name)]
    if not named:
        raise BadInput("key", which, "there is no key of this id or name; `wattlog key list` has them")
    ended = {key.id: replace(key, revoked_ms=now_ms) for key in named if key.revoked_ms is None}
    return [ended.get(key.id, key) for key in keys], list(ended.values())


def encode_keys(keys: Iterable[ApiKey]) -> bytes:
    """Return the contents of a file of keys."""
    rows = [
        {
            "id": key.id, "name": key.name, "sha256": key.digest, "scopes": sorted(key.scopes),
            "tenants": None if key.tenants is None else sorted(key.tenants),
            "created": rfc3339(key.created_ms), "expires": rfc3339(key.expires_ms),
            "revoked": None if key.revoked_ms is None else rfc3339(key.revoked_ms),
        }
        for key in keys
    ]  # fmt: skip
    return json.dumps({"version": _VERSION, "keys": rows}, indent=1, ensure_ascii=False).encode() + b"\n"


def decode_keys(contents: bytes) -> list[ApiKey]:
    """Return the keys of a file. Raises BadInput for contents that are not wholly right: half a file grants nothing."""
    try:
        document = json.loads(contents)
    except (ValueError, RecursionError):
        raise BadInput("keys_file", f"({len(contents)} bytes)", "it is no JSON; write it by `wattlog key`") from None
    if not isinstance(document, dict) or document.get("version") != _VERSION:
        raise BadInput("keys_file", f"({len(contents)} bytes)", f"it is no file of keys of version {_VERSION}")
    rows = document.get("keys")
    if not isinstance(rows, list) or len(rows) > MAX_KEYS:
        raise BadInput("keys", type(rows).__name__, f"give a list of at most {MAX_KEYS} keys")
    keys = [_key(number, row) for number, row in enumerate(rows)]
    for name in ("id", "digest"):
        if len({getattr(key, name) for key in keys}) < len(keys):
            raise BadInput("keys", f"({len(keys)} keys)", f"two have one {name}")
    return keys


def _key(number: int, row: object) -> ApiKey:
    try:
        return _read(row)
    except BadInput as error:
        raise BadInput(f"keys[{number}].{error.field}", error.value, error.fix) from None


def _read(row: object) -> ApiKey:
    if not isinstance(row, dict):
        raise BadInput("key", type(row).__name__, "give an object")
    tenants, scopes = row.get("tenants"), row.get("scopes")
    if tenants is not None and not (isinstance(tenants, list) and all(isinstance(text, str) for text in tenants)):
        raise BadInput("tenants", type(tenants).__name__, "give a list of names, or null for all")
    if not isinstance(scopes, list):
        raise BadInput("scopes", type(scopes).__name__, "give a list")
    revoked = row.get("revoked")
    key = ApiKey(
        id=_text(row, "id"), name=_text(row, "name"), digest=_text(row, "sha256"), scopes=_scopes(scopes),
        tenants=None if tenants is None else frozenset(tenants), created_ms=_time(row, "created"),
        expires_ms=_time(row, "expires"), revoked_ms=None if revoked is None else _time(row, "revoked"),
    )  # fmt: skip
    _check(key)
    return key


def _check(key: ApiKey) -> None:
    if not re.fullmatch("[0-9a-f]{64}", key.digest):
        raise BadInput("sha256", f"({len(key.digest)} characters)", "give 64 hexadecimal digits")
    if key.id != key.digest[:ID_CHARS]:
        raise BadInput("id", key.id, f"it is the first {ID_CHARS} digits of sha256")
    if not NAME.fullmatch(key.name):
        raise BadInput("name", key.name, "give 1 to 63 of a-z 0-9 . _ -, the first a letter or digit")
    if not key.scopes:
        raise BadInput("scopes", [], f"give one of {', '.join(Scope)} or more")
    if key.scopes & SEND and key.scopes - SEND:
        raise BadInput("scopes", sorted(key.scopes), "a key to send is no key to read: make two")
    if key.tenants is None:
        if Scope.READ_TENANT in key.scopes:
            raise BadInput("scopes", str(Scope.READ_TENANT), "it needs tenants; for all of them use read:finance")
    elif not 1 <= len(key.tenants) <= MAX_KEY_TENANTS or not all(is_tenant_name(tenant) for tenant in key.tenants):
        raise BadInput("tenants", f"({len(key.tenants)} names)", f"give 1 to {MAX_KEY_TENANTS} names of tenants")


def _scopes(texts: Iterable[Any]) -> frozenset[Scope]:
    for text in texts:
        if not isinstance(text, str) or text not in frozenset(Scope):
            raise BadInput("scopes", text, f"give one of {', '.join(Scope)}")
    return frozenset(Scope(text) for text in texts)


def _text(row: Mapping[str, Any], name: str) -> str:
    value = row.get(name)
    if not isinstance(value, str):
        raise BadInput(name, value if value is None else type(value).__name__, "give a text")
    return value


def _time(row: Mapping[str, Any], name: str) -> int:
    try:
        return epoch_ms(_text(row, name))
    except ValueError:
        raise BadInput(name, row.get(name), "give RFC 3339 in UTC") from None


def _checksum(text: str) -> str:
    return _base62(zlib.crc32(text.encode()), _SUM_CHARS)


def _base62(number: int, chars: int) -> str:
    digits = ""
    for _ in range(chars):
        number, digit = divmod(number, 62)
        digits = _DIGITS[digit] + digits
    return digits
