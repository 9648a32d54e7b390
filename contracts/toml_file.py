"""TOML that a person wrote, read so that what is wrong with it has a name."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from contracts.errors import BadSetting


def read_toml(path: Path) -> dict[str, Any]:
    """Return the contents of a file. A byte order mark, which editors of Windows write, is passed over.

    Raises BadSetting for a file that is no TOML in UTF-8, OSError for one that cannot be read.
    """
    content = path.read_bytes()
    try:
        return tomllib.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        fix = f"byte {error.start + 1:,} is no UTF-8: save the file as UTF-8"
        raise BadSetting("file", str(path), fix) from None
    except tomllib.TOMLDecodeError as error:
        raise BadSetting("file", str(path), f"it is no TOML: {error}") from None
