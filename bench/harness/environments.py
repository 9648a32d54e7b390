"""A virtual environment for each peer, under .cache/bench: their dependencies contradict each other's and Wattlog's
(Bytewax and Quix pin confluent-kafka, Pathway pins pyarrow). Made once; the pins are in bench/contestants/*.txt."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".cache" / "bench"
_LIMIT_S = 900


class PeerMissingError(Exception):
    """A peer cannot be installed here. The text says why."""


def pins(name: str) -> Path:
    return ROOT / "bench" / "contestants" / f"{name}.txt"


def python_of(name: str | None) -> Path:
    """The interpreter to run a contestant with; installs a peer's environment the first time, with pip.

    Raises PeerMissingError with pip's last lines.
    """
    if name is None:
        return Path(sys.executable)
    requirements = pins(name)
    folder = CACHE / f"{name}-{hashlib.sha256(requirements.read_bytes()).hexdigest()[:12]}"
    python = folder / "bin" / "python"
    if (folder / "installed").exists():
        return python
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, with_pip=True)
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", str(requirements)]
    process = subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT_S, check=False)
    if process.returncode:
        tail = "\n".join(process.stderr.strip().splitlines()[-4:])
        raise PeerMissingError(f"{name} was not installed (exit status {process.returncode}):\n{tail}")
    (folder / "installed").touch()
    return python
