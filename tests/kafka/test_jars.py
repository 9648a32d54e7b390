"""Without Kafka the reason is reported in time, and no partial download remains."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kafka import jars

JAVA_17 = "#!/bin/sh\necho 'openjdk version \"17.0.1\" 2021-10-19' >&2\n"


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH without programs, and an empty cache."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(jars, "CACHE", tmp_path / "cache")
    return folder


def _program(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.write_text(text)
    path.chmod(0o755)


def test_without_java_the_reason_names_java(programs: Path) -> None:
    assert "java" in (jars.missing() or "")


def test_an_old_java_is_named_with_the_required_version(programs: Path) -> None:
    _program(programs, "java", JAVA_17.replace("17.0.1", "11.0.2"))
    assert jars.missing() == "`java` is 11; Kafka 4 needs 17 or newer"


def test_without_maven_the_reason_names_maven(programs: Path) -> None:
    _program(programs, "java", JAVA_17)
    assert "mvn" in (jars.missing() or "")


def test_a_filled_cache_needs_no_maven(programs: Path) -> None:
    _program(programs, "java", JAVA_17)
    jars._folder().mkdir(parents=True)
    assert jars.missing() is None
    assert jars.resolve() == jars._folder()


def test_mavens_output_is_shown_when_it_fails_and_no_cache_is_left(programs: Path) -> None:
    _program(programs, "java", JAVA_17)
    _program(programs, "mvn", "#!/bin/sh\necho 'Could not find artifact'\nexit 1\n")
    with pytest.raises(jars.KafkaMissing, match="Could not find artifact"):
        jars.resolve()
    assert list(jars.CACHE.iterdir()) == []


def test_a_maven_that_hangs_is_stopped(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _program(programs, "java", JAVA_17)
    _program(programs, "mvn", "#!/bin/sh\nexec /bin/sleep 60\n")
    monkeypatch.setattr(jars, "MAVEN_LIMIT_S", 0.2)
    with pytest.raises(jars.KafkaMissing, match=r"in 0\.2 s"):
        jars.resolve()
    assert list(jars.CACHE.iterdir()) == []
