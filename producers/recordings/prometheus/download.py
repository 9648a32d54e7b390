"""Download of a history, chunk by chunk, to files. A download that is killed continues behind its last file.

Chunks are as long as the answers may be large: at most MAX_POINTS points a series, of which Prometheus answers 11,000,
and about TARGET_SAMPLES samples a question. A chunk that the server cannot answer is halved.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from contracts.errors import Unavailable
from producers.gpu.exporter_formats import ExporterFormat
from producers.recordings.prometheus.range_query import RangeClient, RangeTooLong, selector
from producers.recordings.prometheus.samples import ChunkMerger, ChunkSamples, LabelNames, samples_of

MAX_POINTS = 10_000
FIRST_POINTS = 120
TARGET_SAMPLES = 100_000
_decode = msgspec.msgpack.Decoder(ChunkSamples).decode


@dataclass(frozen=True)
class HistoryRange:
    """Range of a history: samples of an exporter whose labels match, at `points` moments from `start_s` on."""

    url: str
    exporter: ExporterFormat
    matchers: tuple[str, ...]
    names: LabelNames
    start_s: int
    step_s: int
    points: int


class ChunkFolder:
    """Files of a download. A file is whole or not there; its name has its first point and the one behind its last."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def end_of(self, point: int) -> int | None:
        """Return the point behind the chunk that begins at a point, None where there is no such file."""
        return next((int(path.stem.partition("-")[2]) for path in self._folder.glob(f"{point:09d}-*.chunk")), None)

    def write(self, point: int, end: int, chunk: ChunkSamples) -> None:
        """Store a chunk. Raises Unavailable if the disk does not take it."""
        path = self._folder / f"{point:09d}-{end:09d}.chunk"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            draft = path.with_suffix(f".{os.getpid()}")
            draft.write_bytes(zlib.compress(msgspec.msgpack.encode(chunk), 1))
            draft.replace(path)
        except OSError as error:
            raise Unavailable(f"{path} cannot be written: {error.strerror}", "Is the disk full?") from None

    def read(self, points: int) -> Iterator[ChunkSamples]:
        """Yield all chunks in order. Raises Unavailable where one is missing or damaged."""
        point = 0
        while point < points:
            end = self.end_of(point)
            path = self._folder / f"{point:09d}-{end or 0:09d}.chunk"
            try:
                yield _decode(zlib.decompress(path.read_bytes()))
            except (OSError, zlib.error, msgspec.DecodeError) as error:
                path.unlink(missing_ok=True)
                raise Unavailable(f"{path} cannot be read: {error}", "Run it again: it is downloaded again.") from None
            point = end or points


def download(
    client: RangeClient, history: HistoryRange, folder: ChunkFolder, progress: Callable[[int, int], None]
) -> None:
    """Download what is not in the folder yet. `progress` gets the points so far, and all."""
    queries = {sample: selector(sample, history.matchers) for sample in samples_of(history.exporter)}
    point, length = 0, FIRST_POINTS
    while point < history.points:
        end = folder.end_of(point)
        if end is None:
            end = min(point + length, history.points)
            try:
                chunk, series = _chunk(client, history, queries, point, end)
            except RangeTooLong:
                if end - point == 1:
                    raise
                length = (end - point) // 2
                continue
            folder.write(point, end, chunk)
            length = min(max(TARGET_SAMPLES // max(series, 1), 1), MAX_POINTS, 4 * length)
        point = end
        progress(point, history.points)


def _chunk(
    client: RangeClient, history: HistoryRange, queries: dict[str, str], point: int, end: int
) -> tuple[ChunkSamples, int]:
    """Return the samples of the points from `point` to before `end`, and the number of series of the largest answer."""
    merger = ChunkMerger(history.exporter, history.names, history.start_s, history.step_s)
    start_s, end_s = (history.start_s + n * history.step_s for n in (point, end - 1))
    size = 0
    for sample, query in queries.items():
        series = client.series(query, start_s, end_s, history.step_s)
        merger.add(sample, series)
        size = max(size, len(series))
    return merger.samples(), size
