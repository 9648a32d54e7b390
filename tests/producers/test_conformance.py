"""One suite over every registered plug-in: malformed, cut, huge, nested, overflowing and wrongly encoded input, and
exceptions of any class. The process continues, good items beside bad ones count exactly, refusals are counted by source
and reason and logged at a bounded rate. A plug-in declares in `feeds.py` how it is fed (`tests.producers.conformance`).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module
from itertools import islice
from pathlib import Path

import pytest

from contracts import codec
from contracts.settings import Settings
from producers import registry
from producers.api import Kind
from producers.bindings.claims import GpuBoard
from producers.runtime.refusals import MAX_LOGGED
from tests.producers.conformance import BOUNDS, Feed, Piece, logged
from tests.producers.frame import environment
from tests.producers.test_slow_input import CLIENTS
from tests.support.clocks import T0
from tests.support.paths import ROOT


def feeds_of(entry: registry.Entry) -> list[Feed] | str:
    """Return what `feeds.py` beside or above a plug-in's tests declares. Raises LookupError where nothing does."""
    folder = ROOT / "tests" / entry.folder
    for place in (folder, *folder.parents):
        if place == ROOT / "tests":
            break
        if (place / "feeds.py").is_file():
            module = import_module(".".join((place / "feeds").relative_to(ROOT).parts))
            if entry.name in module.FEEDS:
                declared: list[Feed] | str = module.FEEDS[entry.name]
                return declared
    raise LookupError(f"no feeds.py declares how {entry.kind.value} {entry.name!r} is fed ({entry.folder})")


def cases() -> Iterator[object]:
    """Yield a case for each piece in each place. A plug-in without a declaration fails in a test of its own."""
    for entry in registry.BUILT_IN:
        feeds: list[Feed] | str = ""
        with suppress(LookupError):
            feeds = feeds_of(entry)
        for feed in () if isinstance(feeds, str) else feeds:
            for name, content in {**feed.pieces, **feed.errors}.items():
                yield pytest.param(feed, Piece(name, content), id=f"{entry.kind.name}-{entry.name}-{feed.place}-{name}")


@pytest.mark.parametrize(("feed", "piece"), list(cases()))
def test_a_bad_piece_is_refused_and_the_good_ones_around_it_count(
    feed: Feed, piece: Piece, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    outcome = feed.run(piece, tmp_path)
    assert outcome.amount == pytest.approx(outcome.expected)
    if piece.name in feed.harmless:
        return
    assert outcome.refusals
    if piece.is_error and feed.class_is_reason:
        assert type(piece.content).__name__ in {reason for _, reason in outcome.refusals}
    for source in {source for source, _ in outcome.refusals}:
        assert 1 <= len(outcome.log or logged(caplog.text, source)) <= MAX_LOGGED


@pytest.mark.parametrize("entry", registry.BUILT_IN, ids=lambda entry: f"{entry.kind.name}-{entry.name}")
def test_every_plug_in_declares_how_it_is_fed_and_what_bounds_slow_input(entry: registry.Entry) -> None:
    feeds = feeds_of(entry)
    assert feeds
    assert isinstance(feeds, str) or {feed.slow for feed in feeds} <= {*CLIENTS, *BOUNDS}


NOTHING = [entry for entry in registry.BUILT_IN if isinstance(feeds_of(entry), str)]


def _use(entry: registry.Entry) -> object:
    """Build a plug-in that is fed nothing, and return what it yields."""
    plugin = registry.get(entry.name, entry.kind)
    built = plugin.factory(
        plugin.options.model_construct() if plugin.options else None, environment(Settings(workload="chat"))
    )
    if entry.kind is Kind.EVENTS:
        return [codec.encode(event) for event in islice(built.events(T0, 10_000), 500)]
    return built.read((GpuBoard("GPU-a"),), 0) if entry.kind is Kind.BINDING else built


@pytest.mark.parametrize("entry", NOTHING, ids=lambda entry: entry.name)
def test_a_plug_in_that_is_fed_nothing_reads_nothing(entry: registry.Entry, monkeypatch: pytest.MonkeyPatch) -> None:
    first = _use(entry)
    assert (first is None) is (entry.kind is Kind.SHARED)

    def refuse(*args: object, **options: object) -> None:
        raise AssertionError("it reads from outside")

    for place in ("builtins.open", "io.open", "os.open", "socket.socket", "subprocess.Popen"):
        monkeypatch.setattr(place, refuse)
    assert _use(entry) == first


def test_a_new_plug_in_without_a_declaration_fails() -> None:
    with pytest.raises(LookupError, match="how polled source 'new' is fed"):
        feeds_of(registry.Entry(Kind.POLLED, "new", "producers.servers.new.plugin:PLUGIN"))
