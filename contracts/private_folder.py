"""Folders that only their user may read: they hold names of tenants, requests and their energy."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def make_private_folder(path: Path) -> None:
    """Make a folder and its missing parents, mode 0700; one that exists with more is tightened, where it may be.

    Raises OSError where it cannot be made. A folder that many share, like /tmp, stays as it is.
    """
    if path.is_dir():
        mode = path.stat().st_mode
        if mode & _OTHERS and not mode & (stat.S_ISVTX | stat.S_ISGID):
            with suppress(OSError):
                path.chmod(stat.S_IRWXU)
        return
    for folder in [*(parent for parent in reversed(path.parents) if not parent.exists()), path]:
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)
    if not path.is_dir():
        raise NotADirectoryError(None, os.strerror(20), str(path))


def is_open_to_others(path: Path) -> bool:
    """Return whether users other than its owner may enter a folder. False where there is none."""
    try:
        return bool(path.stat().st_mode & _OTHERS)
    except OSError:
        return False
