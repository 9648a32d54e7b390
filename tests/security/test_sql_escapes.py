"""No SQL leaves the caller's own rows: not past the gate, and not out of the child if the gate were not there."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from api.app import create_app
from contracts.errors import BadQuery
from contracts.settings import Settings
from tests.api.conftest import LOOPBACK, TestClient
from tests.api.test_auth import SECRET as KEY
from tests.api.test_auth import token
from tests.cli.conftest import wattlog
from tests.security import escapes
from tests.support.ledger_rows import rows
from tests.support.paths import ROOT
from tests.support.waiting import HANG_S
from warehouse.ad_hoc import confined
from warehouse.ad_hoc.answers import Bounds
from warehouse.ad_hoc.gate import EngineError, RefusalError, judge
from warehouse.ad_hoc.server import engine_lines
from warehouse.client import Warehouse, connect
from warehouse.migrate import migrate
from warehouse.read_only_sql import read_only
from warehouse.reader import LedgerReader, tenant_reader

SECRET = "marked-secret-8c1f"
OTHERS = "other-tenant-5e2a"
OWN = "acme"


@pytest.fixture(scope="module")
def warehouse(chdb_dsn: str) -> Iterator[Warehouse]:
    """One warehouse for all tests of this module: none of them changes it."""
    with connect(chdb_dsn, database="escapes") as warehouse:
        migrate(warehouse)
        warehouse.insert("ledger", rows("ledger", {"tenant": OWN}, {"tenant": OTHERS}))
        tenants = [{"tenant": t, "team": t, "cost_centre": t, "version": 1} for t in (OWN, OTHERS)]
        warehouse.insert_rows("tenants", tenants)
        yield warehouse
        warehouse.command("DROP DATABASE escapes")


@pytest.fixture
def secret_file(tmp_path: Path) -> Path:
    file = tmp_path / "secret.txt"
    file.write_text(SECRET)
    return file


def statements(corpus: str, secret_file: Path) -> list[str]:
    return [s.replace("FILE", str(secret_file)).replace("OTHERS", OTHERS) for s in escapes.lines(corpus)]


@pytest.mark.parametrize("corpus", ["READS_FILES", "REACHES_OUT", "TELLS_OF_THE_HOST"])
def test_the_gate_refuses_what_reads_outside(warehouse: Warehouse, secret_file: Path, corpus: str) -> None:
    passed = []
    for sql in statements(getattr(escapes, corpus), secret_file):
        with warehouse.reader() as client:
            try:
                judge(sql, warehouse.database, lambda s, c=client: engine_lines(c, s))
            except (RefusalError, EngineError) as refused:
                assert SECRET not in str(refused), sql
            else:
                passed.append(sql)
    assert passed == []
    assert not list(secret_file.parent.glob("*.out"))


@pytest.mark.slow
def test_a_tenant_gets_own_rows_or_a_refusal(warehouse: Warehouse, secret_file: Path) -> None:
    reader = tenant_reader(warehouse, OWN)
    own = []
    for sql in statements(escapes.READS_OTHERS, secret_file):
        with warehouse.reader() as client:
            try:
                judge(sql, warehouse.database, lambda s, c=client: engine_lines(c, s))
            except RefusalError:
                continue
            except EngineError:  # for want of a table, say: the child says it in its own words
                pass
        text = answer(reader, sql)
        # an error quotes the question, so its own words are no leak
        assert OTHERS not in text.replace(sql, "").replace(f"'{OTHERS}'", ""), sql
        own.append(OWN in text.replace(sql, ""))
    assert sum(own) > 3


@pytest.mark.slow
@pytest.mark.parametrize("sql", escapes.lines(escapes.TAKES_TOO_MUCH))
def test_a_bomb_takes_no_more_than_a_question_may(warehouse: Warehouse, sql: str) -> None:
    try:
        rows_ = confined.ask_child(
            tenant_reader(warehouse, OWN), sql, Bounds(rows=1_000, timeout_s=2, bytes=10**5)
        ).rows
    except BadQuery:
        return
    assert len(repr(rows_)) < 1_000


def answer(reader: LedgerReader, sql: str) -> str:
    """Everything that the caller sees."""
    try:
        return repr(read_only(reader, sql, timeout_s=5))
    except BadQuery as refused:
        return f"{refused} {refused.fix}"


@pytest.mark.slow
def test_without_the_gate_a_child_still_reads_nothing_of_the_host(secret_file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "child"
    folder.mkdir()
    (tmp_path / "questions.json").write_text(json.dumps(statements(escapes.READS_FILES, secret_file)))
    code = f"""
import json, os, sys
sys.path.insert(0, {str(ROOT)!r})
from warehouse.ad_hoc import child
from warehouse.ad_hoc.answers import Bounds
from warehouse.ad_hoc.confined import limits
questions = json.loads(sys.stdin.read())
if not child.confine_to({str(folder)!r}, limits(Bounds(timeout_s=1))):
    print("no Landlock"); sys.exit()
task = {{"folder": {str(folder)!r}, "database": "x"}}
for sql in questions:
    try:
        print(child._Handle(task, {{}}).run(sql, "TabSeparatedRaw"))
    except child.EngineError as error:
        print(error)
sys.stdout.flush()
os._exit(0)
"""
    child = subprocess.run(
        [sys.executable, "-I", "-c", code], input=(tmp_path / "questions.json").read_text(), env={}, cwd=folder,
        capture_output=True, text=True, timeout=HANG_S,
    )  # fmt: skip
    if "no Landlock" in child.stdout:
        pytest.skip("this kernel has no Landlock")
    assert child.returncode == 0, child.stderr[-2000:]
    assert len(child.stdout.splitlines()) >= len(escapes.lines(escapes.READS_FILES))
    assert SECRET not in child.stdout
    assert not list(tmp_path.glob("*.out"))


def every_escape(secret_file: Path) -> list[str]:
    corpora = (escapes.READS_FILES, escapes.REACHES_OUT, escapes.TELLS_OF_THE_HOST, escapes.READS_OTHERS)
    return [sql for corpus in corpora for sql in statements(corpus, secret_file)]


def leaks(text: str, sql: str) -> bool:
    """Return True if a text has a secret that is not the question's own."""
    own = {sql, json.dumps(sql)[1:-1], f"'{OTHERS}'"}
    for words in own:
        text = text.replace(words, "")
    return SECRET in text or OTHERS in text


@pytest.mark.slow
def test_over_http_an_escape_is_refused(warehouse: Warehouse, secret_file: Path, tmp_path: Path) -> None:
    """Each question takes a process and two seconds: every twelfth of the corpus."""
    with TestClient(create_app(warehouse, Settings(api_jwt_key=KEY, data=tmp_path)), base_url=LOOPBACK) as client:
        for sql in every_escape(secret_file)[::12]:
            answer = client.post("/v1/sql", json={"query": sql, "timeout_s": 5}, headers=token(tenant=OWN))
            assert answer.status_code == 422, (sql, answer.text)
            assert not leaks(answer.text, sql), sql
    assert not list(tmp_path.glob("*.out"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger without rows."""
    data = tmp_path_factory.mktemp("escapes") / "data"
    assert wattlog("migrate", "--data", data).status == 0
    return data


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 80, 120])
def test_on_the_command_line_an_escape_is_refused(number: int, secret_file: Path, data: Path) -> None:
    sql = [s for corpus in ("READS_FILES", "REACHES_OUT", "TELLS_OF_THE_HOST")
           for s in statements(getattr(escapes, corpus), secret_file)][number]  # fmt: skip
    ran = wattlog("sql", sql, "--timeout", "5", "--data", data)
    assert ran.status == 2, ran.out
    assert SECRET not in ran.out + ran.err.replace(sql, "")
