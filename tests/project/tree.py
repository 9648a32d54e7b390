"""The project's own files, for the tests of this folder."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.support.paths import ROOT


def files() -> list[Path]:
    """Every file that git tracks or would track: new files count, ignored ones do not."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    paths = (ROOT / name for name in process.stdout.split("\0") if name)
    return sorted(path for path in paths if path.is_file())


def texts(*suffixes: str) -> dict[Path, str]:
    """The text of those files (of the suffixes, or of all); binary files are left out."""
    got = {}
    for path in files():
        if suffixes and path.suffix not in suffixes:
            continue
        try:
            got[path.relative_to(ROOT)] = path.read_text("utf-8")
        except UnicodeDecodeError:
            continue
    return got
