"""Files of other formats are named, with what to run instead; compressed ones are read."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
from pathlib import Path

import pyarrow
import pytest

from contracts.errors import BadInput
from producers.recordings import unpack
from producers.recordings.csv.recording import csv_recording
from tests.producers.recordings.csv.power import energy, smi
from tests.producers.recordings.replay import wire, write

LINES = smi("index", "power.draw [W]", cells=["0, 100.00 W"] * 5)
TEXT = "".join(f"{line}\n" for line in LINES)
SEMICOLONS = "timestamp;index;power.draw [W]\n2026/07/01 10:00:00.000;0;300,12\n"
TABLE = """Mon Jul  1 10:00:00 2026
+---------------------------------------------------------------------------------------+
| NVIDIA-SMI 535.104.05             Driver Version: 535.104.05   CUDA Version: 12.2     |
"""
DMON = """# gpu   pwr  gtemp  mtemp     sm    mem
# Idx     W      C      C      %      %
    0    70     33     45      0      0
"""


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        ('<?xml version="1.0" ?>\n<nvidia_smi_log>\n</nvidia_smi_log>\n', "XML, as of nvidia-smi -q -x"),
        ("\ufeff<nvidia_smi_log>\n", "XML, as of nvidia-smi -q -x"),
        ("#Date       Time        gpu    pwr\n#YYYYMMDD   HH:MM:SS    Idx      W\n", "nvidia-smi dmon"),
        ("#Date, Time, gpu, pwr, gtemp\n#YYYYMMDD, HH:MM:SS, Idx, W, C\n", "nvidia-smi dmon"),
        (DMON, "nvidia-smi dmon"),
        ("#Entity   POWER  TOTEC\nGPU 0     70.1   1000\n", "dcgmi dmon"),
        ('{"time": 1, "gpu": 0, "power_w": 3}\n{"time": 2}\n', "JSON.*Instead: jq"),
        ('[\n  {"gpu": 0}\n]\n', "JSON.*Instead: jq"),
        (SEMICOLONS, "separated by semicolons.*Instead: sed"),
        (SEMICOLONS.replace(";", "\t"), "separated by tabs.*Instead: tr"),
        (TEXT.partition("\n")[2], "without a header.*Instead: .*timestamp,index,power.draw"),
        ("1782900000,0,300.0\n1782900001,0,300.0\n", "without a header"),
        ("0, 2026/07/01 10:00:00.000, 690.12 W\n", "without a header"),
        ("<!DOCTYPE html>\n<html><body>Sign in</body></html>\n", "HTML page"),
        ("==============NVSMI LOG==============\n\nTimestamp : Mon\n", "text of nvidia-smi -q"),
        (TABLE, "table of nvidia-smi"),
        (TABLE.partition("\n")[2], "table of nvidia-smi"),
        ("0, pwrDraw , 1782900000000000, 300\n", "nvidia-smi stats"),
        ("# HELP DCGM_FI_DEV_POWER_USAGE x\n", "page of metrics.*Instead: wattlog produce exporter"),
        ("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\n", "error message"),
        ("No devices were found\n", "error message"),
        ('Field "power.drw" is not a valid field to query.\n', "error message"),
        ("======================= ROCm System Management Interface =====\n", "rocm-smi.*Instead: amd-smi"),
        (b"PK\x03\x04\x14\x00\x06\x00", "Excel workbook"),
        (b"PAR1\x15\x04", "Parquet"),
        (b"\x7fELF\x02\x01\x01\x00\x00", "no text"),
    ],
)  # fmt: skip
def test_another_format_is_named_with_what_to_run_instead(tmp_path: Path, content: str | bytes, kind: str) -> None:
    with pytest.raises(BadInput, match=f"p.csv': is .*{kind}"):
        energy(tmp_path / "p.csv", content)


def test_a_requests_file_of_another_format_is_named_too(tmp_path: Path) -> None:
    tokens, power = write(tmp_path / "t.csv", '{"start": 1}'), write(tmp_path / "p.csv", *LINES)
    with pytest.raises(BadInput, match=r"t\.csv': is JSON"):
        csv_recording(tokens, power)


def test_text_of_any_encoding_is_read(tmp_path: Path) -> None:
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"):
        assert energy(tmp_path / "p.csv", TEXT.replace("\n", "\r\n").encode(encoding)).joules == 400


def _zstandard(data: bytes) -> bytes:
    return bytes(pyarrow.Codec("zstd").compress(data).to_pybytes())


PACKERS = {"gz": gzip.compress, "zst": _zstandard, "bz2": bz2.compress, "xz": lzma.compress}


@pytest.mark.parametrize("suffix", PACKERS)
def test_a_compressed_file_is_read_under_any_name(tmp_path: Path, suffix: str) -> None:
    packed = PACKERS[suffix](TEXT.encode())
    for name in (f"p.csv.{suffix}", "p.csv"):
        assert energy(tmp_path / name, packed).joules == 400


@pytest.mark.parametrize("suffix", ["gz", "zst"])
def test_compressed_files_may_be_joined(tmp_path: Path, suffix: str) -> None:
    first, second = TEXT.encode()[:70], TEXT.encode()[70:]
    packed = PACKERS[suffix](first) + PACKERS[suffix](second)
    assert energy(tmp_path / "p.csv", packed).joules == 400


def test_a_compressed_file_is_the_same_recording(tmp_path: Path) -> None:
    plain, packed = write(tmp_path / "p.csv", *LINES), tmp_path / "p.csv.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert wire(csv_recording(None, plain).events()) == wire(csv_recording(None, packed).events())


@pytest.mark.parametrize("suffix", PACKERS)
def test_a_cut_compressed_file_is_read_up_to_the_cut(tmp_path: Path, suffix: str) -> None:
    lines = smi(
        "index", "power.draw [W]", cells=[f"0, {100 + n * 37 % 41}.{n * 7919 % 97:02} W" for n in range(20_000)]
    )
    packed = PACKERS[suffix]("".join(f"{line}\n" for line in lines).encode())
    if suffix in ("gz", "zst"):
        replayed = energy(tmp_path / "p.csv", packed[: len(packed) * 3 // 4])
        assert replayed.joules > 0
        assert "the compressed file is cut or damaged here" in replayed.bad[-1].reason
    else:
        with pytest.raises(BadInput, match="cut or damaged"):
            energy(tmp_path / "p.csv", packed[:40])


def test_the_unpacked_size_of_a_file_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpack, "MAX_UNPACKED", 100_000)
    packed = io.BytesIO()
    with gzip.open(packed, "wb") as file:
        file.write(TEXT.encode())
        file.write(b"\n" * 200_000)
    with pytest.raises(BadInput, match="unpacks to more than 100000 bytes"):
        energy(tmp_path / "p.csv", packed.getvalue())
