"""Files of the same tools that are no CSV with a header: named, with what to run instead."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path

from contracts.errors import BadInput
from producers.recordings.base import BadRow
from producers.recordings.csv_table import HEAD_LINES, is_header
from producers.recordings.text_lines import read_lines, time_ms

QUERY = "nvidia-smi --query-gpu=timestamp,uuid,name,power.draw,utilization.gpu --format=csv -l 1 > power.csv"
_BINARY = (
    ("PK\x03\x04", "a ZIP archive or an Excel workbook", "unpack it, or save the sheet as CSV"),
    ("PAR1", "a Parquet file", "export it as CSV"),
    ("SQLite format 3", "an SQLite database", "export the table as CSV"),
    ("%PDF", "a PDF document", "get the CSV that it was made from"),
    ("7z\udcbc\udcaf", "a 7-Zip archive", "unpack it first"),
)
_TEXT = (
    (r"<\?xml|<nvidia_smi_log", "XML, as of nvidia-smi -q -x", QUERY),
    (r"<!doctype html|<html|<head", "an HTML page, perhaps of a login", "download the file itself"),
    (r"=+\s*nvsmi log", "the text of nvidia-smi -q", QUERY),
    (r"\+-{5,}|\|\s*nvidia-smi ", "the table of nvidia-smi", QUERY),
    (r"# *date\b.*\b(gpu|pwr|idx)|# *gpu\b|# *idx\b", "the text of nvidia-smi dmon", QUERY),
    (r"#? *entity\b", "the text of dcgmi dmon", QUERY),
    (r"=+\s*rocm", "the text of rocm-smi", "amd-smi metric --power --csv --watch 1 --file power.csv"),
    (r"# (help|type) |[a-z_:]+\{.*\} ", "a page of metrics", "wattlog produce exporter reads it where it is served"),
    (r"[\[{]", "JSON", "jq -r to CSV, as `jq -r '[.time, .gpu, .power_w] | @csv'` behind a header line; or " + QUERY),
    (r"nvidia-smi has failed|no devices were found|unable to determine|failed to initialize|field .* is not a valid",
     "an error message of nvidia-smi", QUERY),
    (r"\w+, *(pwrdraw|temp|gpuutil|memutil|procclk|memclk|enc\w*|dec\w*|violat\w*) *,", "nvidia-smi stats", QUERY),
)  # fmt: skip


def refuse_other_formats(
    path: Path, aliases: Mapping[str, Sequence[str]], required: Sequence[str], example_header: str
) -> None:
    """Raise BadInput for a file that is another format than CSV with a header: it names the format and the way out."""
    lines = [line for _, line in islice((i for i in read_lines(path) if not isinstance(i, BadRow)), HEAD_LINES)]
    if not lines or any(is_header(line, aliases, required) for line in lines):
        return
    head = lines[0].lstrip("\ufeff")

    def refuse(kind: str, way: str) -> BadInput:
        return BadInput("file", path.name, f"is {kind}, and not the CSV that is read. Instead: {way}")

    for magic, kind, way in _BINARY:
        if head.startswith(magic):
            raise refuse(kind, way)
    if "\0" in head:
        raise refuse("no text", QUERY)
    for pattern, kind, way in _TEXT:
        if re.match(pattern, head, re.IGNORECASE):
            raise refuse(kind, way)
    if any(re.match(r"\+-{5,}", line) for line in lines):
        raise refuse("the table of nvidia-smi", QUERY)
    for mark, kind, way in (
        (";", "separated by semicolons", f"sed 's/,/./g; s/;/,/g' {path.name} > commas.csv"),
        ("\t", "separated by tabs", f"tr '\\t' ',' < {path.name} > commas.csv"),
        ("|", "separated by bars", f"tr '|' ',' < {path.name} > commas.csv"),
    ):
        if head.count(mark) > head.count(","):
            raise refuse(kind, way)
    if _begins_with_values(head):
        raise refuse("without a header", f"put the names of its columns first, as `{example_header}`; or {QUERY}")


def _begins_with_values(line: str) -> bool:
    """Return True for a first line that holds a time where a header would hold names."""
    cells = [cell.strip().strip('"') for cell in line.split(",")]
    return any(map(_is_time, cells)) and len(cells) > 1


def _is_time(cell: str) -> bool:
    try:
        return time_ms(cell) >= 0
    except ValueError:
        return bool(re.fullmatch(r"\d\d?[/.-]\d\d?[/.-]\d{2,4}( .*)?|\d\d?:\d\d(:\d\d.*)?", cell))
