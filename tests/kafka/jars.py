"""Apache Kafka's jars, resolved once by Maven into `.cache/kafka`. `python -m tests.kafka.jars` fetches them ahead.

The version is pinned in pom.xml beside this file. The cache folder has the hash of that file in its name, so that
versions do not mix.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.support.paths import ROOT

POM = Path(__file__).with_name("pom.xml")
CACHE = ROOT / ".cache" / "kafka"
JAVA_MIN = 17
"""Kafka 4's brokers need Java 17 (KIP-1013)."""
MAVEN_LIMIT_S = 240


class KafkaMissing(Exception):
    """Kafka is not available on this machine. The text gives the reason and what to install."""


def missing() -> str | None:
    """Reason why a broker cannot start here, or None. Checks the programs only; downloads nothing."""
    java = shutil.which("java")
    if java is None:
        return f"no `java` on the PATH; install a JRE of {JAVA_MIN} or newer"
    version_text = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=60, check=False).stderr
    version = re.search(r'version "(\d+)', version_text)
    if version is None or int(version[1]) < JAVA_MIN:
        return f"`java` is {version[1] if version else 'of an unknown version'}; Kafka 4 needs {JAVA_MIN} or newer"
    if not _folder().is_dir() and shutil.which("mvn") is None:
        return "no `mvn` on the PATH; install Maven (it fetches Apache Kafka once)"
    return None


def resolve() -> Path:
    """The folder of the broker's jars. The first call fetches them, in at most MAVEN_LIMIT_S seconds.

    Raises KafkaMissing with Maven's last lines when they cannot be fetched.
    """
    reason = missing()
    if reason is not None:
        raise KafkaMissing(reason)
    folder = _folder()
    if folder.is_dir():
        return folder
    CACHE.mkdir(parents=True, exist_ok=True)
    # Fetched into another folder and renamed, so that an interrupted run leaves no half-filled cache.
    aside = Path(tempfile.mkdtemp(dir=CACHE, prefix=".fetching-"))
    try:
        _maven(aside)
        try:
            aside.rename(folder)
        except OSError:
            if not folder.is_dir():  # else another run was first, with the same jars
                raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return folder


def _folder() -> Path:
    return CACHE / hashlib.sha256(POM.read_bytes()).hexdigest()[:16]


def _maven(into: Path) -> None:
    goal = ["dependency:copy-dependencies", f"-DoutputDirectory={into}", "-DincludeScope=runtime"]
    command = ["mvn", "-q", "-B", "-f", str(POM), *goal]
    try:
        process = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=MAVEN_LIMIT_S,
            check=False,
            env={**os.environ, "MAVEN_OPTS": f"-Xmx256m {os.environ.get('MAVEN_OPTS', '')}".strip()},
        )
    except subprocess.TimeoutExpired:
        raise KafkaMissing(
            f"Maven did not fetch Apache Kafka in {MAVEN_LIMIT_S} s; is its repository reached?"
        ) from None
    if process.returncode or not any(into.glob("kafka_2.13-*.jar")):
        tail = "\n".join(process.stdout.strip().splitlines()[-6:])
        raise KafkaMissing(f"Maven could not fetch Apache Kafka (exit status {process.returncode}):\n{tail}")


if __name__ == "__main__":
    try:
        print(f"Apache Kafka: {len(list(resolve().glob('*.jar')))} jars")
    except KafkaMissing as error:
        sys.exit(f"Apache Kafka: {error}")
