"""Writer of the settings file: whole or not at all, and never over what a person wrote."""

from __future__ import annotations

import os
from itertools import count
from pathlib import Path

from contracts.errors import BadInput


def write_settings(path: Path, text: str) -> Path | None:
    """Write the settings file, for its user alone. Return the name under which an earlier file is kept, None without.

    Raises BadInput where it cannot be written; then an earlier file is as it was.
    """
    path = path.resolve()  # A link stays one.
    draft = path.with_name(f".{path.name}.draft")
    try:
        draft.unlink(missing_ok=True)
        descriptor = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            earlier = _keep(path) if path.exists() else None
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise BadInput("file", str(path), f"cannot be written: {error.strerror}") from None
    return earlier


def _keep(path: Path) -> Path:
    """Return a name beside a file, under which it is kept too."""
    names = (path.with_name(f"{path.name}.old{number if number > 1 else ''}") for number in count(1))
    for earlier in names:
        try:
            os.link(path, earlier)
        except FileExistsError:
            continue
        return earlier
    raise AssertionError("names do not end")
