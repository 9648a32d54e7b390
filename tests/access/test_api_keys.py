"""API keys: random texts with a checksum, records with rights and an end, and files that are right as a whole."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from access.api_keys import (
    DAY_MS,
    ENDED_FOR_MS,
    MAX_DAYS,
    MAX_KEYS,
    ApiKey,
    decode_keys,
    digest_of,
    encode_keys,
    is_key_text,
    key_text,
    new_key,
    with_key,
    without_keys,
)  # fmt: skip
from contracts.callers import Caller, Scope
from contracts.errors import BadInput

NOW_MS = 1_793_491_260_000
SECRET = bytes(range(32))


def key(number: int = 0, **changes: Any) -> ApiKey:
    options: dict[str, Any] = {"name": "k", "scopes": ["read:fleet"], "tenants": None, "days": 90} | changes
    return new_key(now_ms=NOW_MS, secret=number.to_bytes(32), **options)


def test_a_key_acts_for_its_tenants_with_its_scopes() -> None:
    fresh = key(name="acme-ui", scopes=["read:tenant"], tenants=["acme", "globex"])
    assert fresh.caller == Caller("acme-ui", frozenset({"acme", "globex"}), frozenset({Scope.READ_TENANT}))
    assert fresh.expires_ms == NOW_MS + 90 * DAY_MS


@given(st.binary(min_size=32, max_size=32), st.integers(0, 51))
def test_a_text_with_one_character_changed_is_no_key(secret: bytes, place: int) -> None:
    text = key_text(secret)
    assert is_key_text(text)
    assert len(text) == 52
    other = "x" if text[place] != "x" else "y"
    assert not is_key_text(text[:place] + other + text[place + 1 :])


@pytest.mark.parametrize("text", ["", "wl_", "wl_" + "0" * 50, key_text(SECRET) + "\n", key_text(SECRET)[:-1], "wl_é"])
def test_other_texts_are_no_keys(text: str) -> None:
    assert not is_key_text(text)


def test_nothing_stored_holds_the_secret() -> None:
    fresh = new_key("k", ["read:fleet"], None, 1, NOW_MS, SECRET)
    assert fresh.digest == digest_of(key_text(SECRET))
    assert key_text(SECRET) not in encode_keys([fresh]).decode() + repr(fresh)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": ""}, "name"), ({"name": "A"}, "name"), ({"name": "role:gateway"}, "name"),
        ({"name": "x" * 64}, "name"), ({"name": "https|x"}, "name"),
        ({"scopes": []}, "scopes"), ({"scopes": ["read:everything"]}, "scopes"),
        ({"scopes": ["read:tenant"]}, "scopes"),
        ({"scopes": ["read:fleet", "send:usage"]}, "scopes"), ({"scopes": ["admin", "send:requests"]}, "scopes"),
        ({"tenants": []}, "tenants"), ({"tenants": ["__idle__"]}, "tenants"), ({"tenants": ["\ud800"]}, "tenants"),
        ({"tenants": [str(n) for n in range(1001)]}, "tenants"),
        ({"days": 0}, "days"), ({"days": MAX_DAYS + 1}, "days"),
    ],
    ids=lambda value: str(value)[:40],
)  # fmt: skip
def test_a_key_without_sense_is_refused_by_field(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(BadInput) as refused:
        key(**changes)
    assert refused.value.field == field


def test_a_key_ends_when_it_expires_or_is_revoked() -> None:
    fresh = key(days=1)
    assert [fresh.state(NOW_MS + t) for t in (0, DAY_MS - 1, DAY_MS)] == ["valid", "valid", "expired"]
    [revoked], [ended] = without_keys([fresh], "k", NOW_MS + 5)
    assert revoked == ended == replace(fresh, revoked_ms=NOW_MS + 5)
    assert revoked.state(NOW_MS) == "revoked"
    assert without_keys([revoked], fresh.id, NOW_MS + 9) == ([revoked], [])


def test_revoking_an_unknown_key_is_refused() -> None:
    with pytest.raises(BadInput, match="no key"):
        without_keys([key()], "other", NOW_MS)


def test_a_successor_bears_the_name_with_the_same_rights_only() -> None:
    assert len(with_key([key(0)], key(1))) == 2
    with pytest.raises(BadInput, match="other rights"):
        with_key([key(0)], key(1, scopes=["read:finance"]))
    revoked, _ = without_keys([key(0)], "k", NOW_MS)
    assert len(with_key(revoked, key(1, scopes=["read:finance"]))) == 2


def test_the_number_of_keys_is_bounded_and_those_that_ended_long_ago_leave() -> None:
    full = [key(n, name=f"k{n}", days=1) for n in range(MAX_KEYS)]
    with pytest.raises(BadInput, match="at most"):
        with_key(full, key(MAX_KEYS))
    later = replace(key(MAX_KEYS), created_ms=NOW_MS + DAY_MS + ENDED_FOR_MS)
    assert with_key(full, later) == [later]


def test_a_file_keeps_keys_as_they_are() -> None:
    keys = [key(0), key(1, name="a", tenants=["acme"], scopes=["read:tenant", "read:fleet"])]
    keys[1] = replace(keys[1], revoked_ms=NOW_MS)
    assert decode_keys(encode_keys(keys)) == keys


@pytest.mark.parametrize(
    "change",
    [
        {"id": "0" * 12}, {"sha256": "00"}, {"scopes": ["root"]}, {"scopes": "read:fleet"}, {"scopes": []},
        {"tenants": "acme"}, {"tenants": [7]}, {"tenants": []}, {"expires": "soon"}, {"expires": None},
        {"revoked": 7}, {"name": 7}, {"name": "A"}, {"created": {}}, {"scopes": [["admin"]]},
    ],
    ids=str,
)  # fmt: skip
def test_one_wrong_record_refuses_the_file_by_field(change: dict[str, Any]) -> None:
    document = json.loads(encode_keys([key(0), key(1)]))
    document["keys"][1] |= change
    with pytest.raises(BadInput, match=r"keys\[1\]"):
        decode_keys(json.dumps(document).encode())


@pytest.mark.parametrize(
    "contents",
    [b"", b"{", b"[]", b"{}", b'{"version": 2, "keys": []}', b'{"version": 1}', b"\xff", b"[" * 100_000,
     b'{"version": 1, "keys": [7]}'],
    ids=lambda contents: str(contents)[:20],
)  # fmt: skip
def test_a_file_of_something_else_is_refused(contents: bytes) -> None:
    with pytest.raises(BadInput):
        decode_keys(contents)


def test_two_records_of_one_key_are_refused() -> None:
    with pytest.raises(BadInput, match="two have one"):
        decode_keys(encode_keys([key(), key()]))
