"""Dimensions of requests as they are sent: users hidden, values bounded, and a word about each bound that was hit."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from contracts.errors import BadSetting
from contracts.settings import Settings
from producers.runtime.batching import RequestRow
from producers.runtime.dimension_values import OTHER, DimensionValues, dimension_values


def request(**more: Any) -> RequestRow:
    return RequestRow(
        model="m", request_id="r", t_start_ms=1, t_first_ms=0, t_end_ms=2, prompt_tokens=1, cached_tokens=0,
        completion_tokens=1, **{"tenant": "acme", **more},
    )  # fmt: skip


def values(data: Path, **settings: Any) -> DimensionValues:
    return dimension_values(Settings(data=data, **settings), CollectorRegistry())


def test_a_user_is_a_hash_that_is_the_same_for_the_same_user_of_a_tenant(tmp_path: Path) -> None:
    bounds = values(tmp_path)
    ann, again, bob = (bounds.bound(request(user=user)).user for user in ("ann", "ann", "bob"))
    assert ann == again != bob
    assert "ann" not in ann and len(ann) == 32
    assert bounds.bound(request(user="ann", tenant="globex")).user != ann


def test_the_hash_outlives_the_process_and_its_key_is_its_owners_alone(tmp_path: Path) -> None:
    first = values(tmp_path).bound(request(user="ann")).user
    assert values(tmp_path).bound(request(user="ann")).user == first
    assert stat.S_IMODE((tmp_path / "user.key").stat().st_mode) == 0o600
    assert values(tmp_path / "other").bound(request(user="ann")).user != first


def test_machines_with_one_key_have_one_hash_and_need_no_file(tmp_path: Path) -> None:
    hashes = {values(tmp_path / name, user_key="k" * 32).bound(request(user="ann")).user for name in "ab"}
    assert len(hashes) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("identity", "sent"), [("plain", "ann"), ("none", "")])
def test_a_user_is_sent_as_it_is_or_not_at_all_where_the_setting_says_so(
    tmp_path: Path, identity: str, sent: str
) -> None:
    assert values(tmp_path, user_identity=identity).bound(request(user="ann")).user == sent
    assert not list(tmp_path.iterdir())


def test_a_file_without_a_key_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "user.key").write_text("short")
    with pytest.raises(BadSetting, match="user_key"):
        values(tmp_path).bound(request(user="ann"))


def test_values_beyond_the_bound_count_as_other_and_are_named_once(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    bounds = dimension_values(Settings(data=tmp_path, max_dimension_values=2), registry)
    sent = [bounds.bound(request(application=name)).application for name in ("a", "b", "c", "a", "d", "")]
    assert sent == ["a", "b", OTHER, "a", OTHER, ""]
    (note,) = bounds.new_notes()
    assert "application" in note and "max_dimension_values" in note
    assert bounds.new_notes() == []
    assert (
        registry.get_sample_value("wattlog_producer_dimension_values_beyond_total", {"dimension": "application"}) == 2
    )


def test_a_dimension_that_the_ledger_does_not_keep_is_not_bounded(tmp_path: Path) -> None:
    bounds = values(tmp_path, max_dimension_values=1, ledger_dimensions=("endpoint",))
    assert [bounds.bound(request(application=name)).application for name in "abc"] == ["a", "b", "c"]
