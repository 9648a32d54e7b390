"""Output of commands, and the status with which they end."""

from __future__ import annotations

import pytest
import typer

from cli.output import errors_reported


def test_an_error_without_a_text_is_reported_by_its_class(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit), errors_reported():
        raise TimeoutError
    assert capsys.readouterr().err == "error: TimeoutError\n"
