"""`wattlog tenant-user`: SQL on stdout, the password on stderr alone."""

from __future__ import annotations

import hashlib
import re

from typer.testing import CliRunner

from cli.main import app


def test_the_sql_is_on_stdout_and_the_password_on_stderr_alone() -> None:
    result = CliRunner().invoke(app, ["tenant-user", "create", "acme"])
    assert result.exit_code == 0
    password = re.search(r"password (\S+):", result.stderr)
    assert password
    assert password[1] not in result.stdout
    assert hashlib.sha256(password[1].encode()).hexdigest() in result.stdout
    assert result.stdout.endswith(";\n")
    words = {statement.split()[0] for statement in result.stdout.removesuffix(";\n").split(";\n")}
    assert words <= {"CREATE", "GRANT", "ALTER", "DROP", "REVOKE"}


def test_an_empty_name_is_refused() -> None:
    result = CliRunner().invoke(app, ["tenant-user", "create", ""])
    assert (result.exit_code, "tenant" in result.stderr) == (2, True)


def test_the_role_of_analysts_reads_the_ledgers_database() -> None:
    result = CliRunner().invoke(app, ["tenant-user", "analyst-role"])
    assert "GRANT SELECT ON `wattlog`.* TO `wattlog_analyst`;" in result.stdout
