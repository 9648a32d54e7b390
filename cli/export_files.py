"""Files of exports: whole, or not there. They are written beside their place under another name, and then renamed."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import BinaryIO

from contracts.errors import BadInput

FOCUS_FILES = frozenset({"CostAndUsage.csv", "BillingPeriod.csv", "InvoiceDetail.csv", "ContractCommitment.csv"})


def check_folder(out: Path, force: bool) -> None:
    """Raise BadInput if there is something at `out` that an export may not replace: with `force`, another export."""
    if not out.exists():
        return
    if not out.is_dir():
        raise BadInput("--out", out, "it is a file: give a folder that does not exist yet")
    names = {path.name for path in out.iterdir()}
    if other := sorted(names - FOCUS_FILES):
        raise BadInput("--out", out, f"it has other files, such as {other[0]}: give a folder of its own")
    if names and not force:
        raise BadInput("--out", out, "it has an earlier export: give another folder, or --force to replace it")


def check_file(out: Path, force: bool, option: str = "--out") -> None:
    """Raise BadInput if there is something at `out`, which the option names, that an export may not replace."""
    if out.is_dir():
        raise BadInput(option, out, "it is a folder: give a file")
    if out.exists() and not force:
        raise BadInput(option, out, "it exists: give another name, or --force to replace it")


def write_folder(out: Path, files: Mapping[str, Iterable[str]], force: bool) -> None:
    """Write text files as a folder. An earlier export stays as it is until the new one is complete."""
    out.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        for name, pieces in files.items():
            with (part / name).open("w", encoding="utf-8", newline="") as file:
                file.writelines(pieces)
                file.flush()
                os.fsync(file.fileno())
        check_folder(out, force)
        if force and out.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
            out.rename(old)
            part.rename(out)
            shutil.rmtree(old)
        else:
            part.rename(out)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def write_file(out: Path, write: Callable[[BinaryIO], None]) -> None:
    """Write a file by a function that takes a binary stream. What was there stays until the new one is complete."""
    out.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{out.name}-", dir=out.parent)
    part = Path(name)
    try:
        with os.fdopen(handle, "w+b") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        part.rename(out)
    finally:
        part.unlink(missing_ok=True)
