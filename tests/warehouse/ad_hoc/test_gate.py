"""The gate of ad-hoc SQL: allowed questions pass, others are refused before anything of them runs."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from warehouse.ad_hoc.functions import ALLOWED_FUNCTIONS, ALLOWED_TABLE_FUNCTIONS, is_allowed_function
from warehouse.ad_hoc.gate import EngineError, Question, RefusalError, judge
from warehouse.ad_hoc.server import engine_lines
from warehouse.client import Warehouse

ALLOWED = [
    "SELECT 1",
    "select 1;",
    "  -- a remark; with a semicolon\n SELECT 1 ; ",
    "SELECT tenant, sum(active_uj) AS uj FROM ledger FINAL GROUP BY tenant ORDER BY uj DESC LIMIT 5",
    "WITH t AS (SELECT tenant FROM ledger) SELECT count() FROM t",
    "WITH 3 AS x SELECT x",
    "(SELECT 1) UNION ALL (SELECT 2)",
    "SELECT 'INTO OUTFILE; file(1) SETTINGS'",
    "SELECT count() FROM ledger AS a JOIN gpu_energy AS b USING (cluster)",
    "SELECT quantile(0.9)(energy_uj) FROM gpu_energy FINAL PREWHERE cluster = 'eu'",
    "SELECT arrayMap(x -> x + 1, [1, 2])",
    "SELECT format('{}-{}', 1, 2)",
    "SELECT sum(number) FROM numbers(10)",
    "SELECT name FROM system.tables LIMIT 1",
    "SELECT count() FROM requests",
    "SHOW TABLES",
    "SHOW TABLES LIKE 'ledger%'",
    "SHOW CREATE TABLE ledger",
    "DESCRIBE TABLE ledger",
    "desc ledger",
    "EXISTS ledger",
    "EXPLAIN SELECT 1",
    "EXPLAIN indexes = 1 SELECT * FROM ledger WHERE tenant = 'a'",
    "EXPLAIN QUERY TREE SELECT 1",
    "SELECT COLUMNS('_uj$') FROM ledger",
    "SELECT l.* FROM ledger AS l ORDER BY ALL LIMIT 1 BY tenant",
    "SELECT tenant, sum(active_uj) OVER (PARTITION BY tenant ORDER BY window_start) FROM ledger",
    "SELECT sumIf(active_uj, final = 1), quantilesExactIf(0.5, 0.9)(active_uj, 1), sumMap(queue_duration) FROM ledger",
    "SELECT CASE WHEN final = 1 THEN 'x' ELSE 'y' END, window_start::Date, INTERVAL 1 DAY FROM ledger",
    "SELECT tenant FROM ledger WHERE active_uj > (SELECT avg(active_uj) FROM ledger) AND tenant IN ('a', 'b')",
    "SELECT toStartOfInterval(window_start, INTERVAL 1 HOUR) AS h, count() FROM ledger GROUP BY h ORDER BY h WITH FILL",
    "SELECT table_name FROM information_schema.tables",
]

REFUSED = [
    "",
    ";",
    "nonsense",
    "SELECT 1; SELECT 2",
    "SELECT 1; DROP TABLE ledger",
    "DROP TABLE ledger",
    "TRUNCATE TABLE ledger",
    "INSERT INTO ledger SELECT * FROM ledger",
    "CREATE TABLE t (a Int8) ENGINE = Memory",
    "ALTER TABLE ledger DELETE WHERE 1",
    "OPTIMIZE TABLE ledger FINAL",
    "SYSTEM STOP MERGES",
    "KILL QUERY WHERE 1",
    "SET readonly = 0",
    "USE default",
    "GRANT ALL ON *.* TO x",
    "ATTACH TABLE t",
    "BACKUP TABLE ledger TO Disk('x', 'y')",
    "SELECT 1 INTO OUTFILE '/tmp/x'",
    "SELECT 1 INTO OUTFILE '/tmp/x' FORMAT CSV",
    "SHOW TABLES INTO OUTFILE '/tmp/x'",
    "SELECT 1 FORMAT CSV",
    "SELECT 1 SETTINGS readonly = 0",
    "SELECT * FROM (SELECT 1 SETTINGS max_memory_usage = 0)",
    "EXPLAIN SELECT 1 SETTINGS readonly = 0",
    "EXPLAIN SELECT file('/etc/passwd')",
    "EXPLAIN INSERT INTO ledger SELECT * FROM ledger",
    "SELECT file('/etc/passwd')",
    "SELECT FILE('/etc/passwd')",
    "SELECT `file`('/etc/passwd')",
    "SELECT \"file\"('/etc/passwd')",
    "SELECT length(concat(file('/etc/passwd'), 'x'))",
    "SELECT (SELECT file('/etc/passwd'))",
    "SELECT arrayMap(x -> file(x), ['/etc/passwd'])",
    "SELECT 1 WHERE 'root' IN (SELECT * FROM file('/etc/passwd', 'LineAsString'))",
    "SELECT 1 IN file('/etc/passwd', 'LineAsString')",
    "WITH x AS (SELECT * FROM url('http://127.0.0.1/', 'CSV')) SELECT * FROM x",
    "SELECT * FROM /* hidden */ url /* here */ ('http://127.0.0.1/', 'CSV')",
    "SELECT * FROM ledger JOIN remote('127.0.0.1', system.one) AS r ON 1",
    "SELECT hasColumnInTable('127.0.0.1', 'system', 'one', 'dummy')",
    "SELECT * FROM '/etc/passwd'",
    "SELECT * FROM `/etc/passwd`",
    "SELECT * FROM default.`/etc/passwd`",
    "SELECT * FROM default.one",
    "DESCRIBE url('http://127.0.0.1/', 'CSV')",
    "DESCRIBE TABLE file('/etc/passwd')",
    "SHOW CREATE TABLE ledger INTO OUTFILE '/tmp/x'",
    "SELECT no_such_column FROM ledger",
    "SELECT * FROM no_such_table",
    "SELECT {x:UInt8}",
    "SELECT 1 /*",
    "SELECT '",
    "SELECT 1 \x00; SELECT 2",
    "SELECT '\ud800'",
    "WITH RECURSIVE t AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM t WHERE n < 5) SELECT sum(n) FROM t",
    "DESCRIBE system.processes",
    "SHOW CREATE TABLE default.ledger",
    "SELECT " + "(" * 3_000 + "1" + ")" * 3_000,
    "x" * 100_001,
]


@pytest.fixture
def lines(warehouse: Warehouse) -> Callable[[str], list[str]]:
    def run(statement: str) -> list[str]:
        with warehouse.reader() as client:
            return engine_lines(client, statement)

    return run


@pytest.mark.parametrize("sql", ALLOWED)
def test_an_allowed_question_passes(warehouse: Warehouse, lines: Callable[[str], list[str]], sql: str) -> None:
    question = judge(sql, warehouse.database, lines)
    assert judge(question.explain + question.text, warehouse.database, lines) == question


@pytest.mark.parametrize("sql", REFUSED)
def test_a_question_that_writes_or_reads_outside_is_refused(
    warehouse: Warehouse, lines: Callable[[str], list[str]], sql: str
) -> None:
    with pytest.raises((RefusalError, EngineError)):
        judge(sql, warehouse.database, lines)


def test_only_harmless_table_functions_pass(warehouse: Warehouse, lines: Callable[[str], list[str]]) -> None:
    names = [r["name"] for r in warehouse.query("SELECT name FROM system.table_functions ORDER BY name")]
    assert len(names) > 50
    for name in names:
        for spelled in (name, name.upper(), f"`{name}`"):
            if name.lower() not in ALLOWED_TABLE_FUNCTIONS:
                with pytest.raises((RefusalError, EngineError)) as refused:
                    judge(f"SELECT * FROM {spelled}('x')", warehouse.database, lines)
                # by the gate, or as no statement at all; not by the engine on evaluation
                assert isinstance(refused.value, RefusalError) or getattr(refused.value, "code", 0) == SYNTAX_ERROR


def test_functions_not_on_the_list_are_refused(warehouse: Warehouse, lines: Callable[[str], list[str]]) -> None:
    names = [r["name"] for r in warehouse.query("SELECT name FROM system.functions ORDER BY name")]
    assert len(names) > 1_000
    others = [name for name in names if not is_allowed_function(name) and name.lower() not in ALLOWED_TABLE_FUNCTIONS]
    assert len(others) > 500
    for name in others[::10]:
        with pytest.raises(RefusalError, match="not on the list"):
            judge(f"SELECT `{name}`(1)", warehouse.database, lines)


SYNTAX_ERROR = 62

OUTSIDE = """
file hasColumnInTable dictGet dictGetOrNull dictHas joinGet catboostEvaluate evalMLMethod aiGenerate addressToLine
addressToSymbol hostName FQDN serverUUID currentUser getMacro getSetting getServerSetting getServerPort
initialQueryID tcpPort uptime buildId filesystemAvailable getOSKernelVersion getClientHTTPHeader sleep sleepEachRow
throwIf arrayReduce initializeAggregation formatRow showCertificate multiMatchAny executable python logTrace
flameGraph zookeeperSessionUptime transactionID regionToName queryID connectionId displayName shardNum sumState
sumMerge
"""


@pytest.mark.parametrize("name", OUTSIDE.split())
def test_a_function_that_reads_anything_but_its_arguments_is_not_on_the_list(name: str) -> None:
    assert not is_allowed_function(name)
    assert name.lower() not in ALLOWED_FUNCTIONS | ALLOWED_TABLE_FUNCTIONS


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT arrayMap(file, ['/etc/hostname'])",
        "WITH (x -> file(x)) AS f SELECT f('/etc/hostname')",
        "SELECT * APPLY(file) FROM (SELECT '/etc/hostname')",
        "SELECT a.* APPLY(x -> file(x)) FROM (SELECT '/etc/hostname') AS a",
        "SELECT COLUMNS('n') APPLY(file) FROM (SELECT '/etc/hostname' AS n)",
        "SELECT COLUMNS(n) APPLY file FROM (SELECT '/etc/hostname' AS n)",
        "EXPLAIN SELECT * APPLY(file) FROM (SELECT '/etc/hostname')",
        "EXPLAIN QUERY TREE SELECT (SELECT * APPLY(file) FROM (SELECT '/etc/hostname'))",
        "WITH t AS (SELECT * APPLY(file) FROM (SELECT '/etc/hostname')) SELECT * FROM t",
        "SELECT * REPLACE (file('/etc/hostname') AS tenant) FROM ledger",
        "SELECT * EXCEPT (tenant) FROM ledger",
    ],
)
def test_a_function_that_is_named_without_a_call_is_refused(
    warehouse: Warehouse, lines: Callable[[str], list[str]], sql: str
) -> None:
    with pytest.raises(RefusalError):
        judge(sql, warehouse.database, lines)


@pytest.mark.parametrize(
    "name",
    [
        "x, function_name: sum, function_type: ordinary",
        "x\n  PROJECTION COLUMNS\n",
        "a\\n FUNCTION id: 1",
        "'",
        "`",
        "\x00",
    ],
)
def test_a_name_like_a_line_of_the_tree_hides_nothing(
    warehouse: Warehouse, lines: Callable[[str], list[str]], name: str
) -> None:
    quoted = name.replace("\\", "\\\\").replace("`", "\\`")
    for call in ("arrayMap(file, ['/etc/hostname'])", "hostName()"):
        with pytest.raises((RefusalError, EngineError)) as caught:
            judge(f"SELECT {call} AS `{quoted}` FROM (SELECT 1 AS `{quoted}`)", warehouse.database, lines)
        assert "\nvm" not in str(caught.value)


def test_a_judged_question_is_the_text_that_runs(warehouse: Warehouse, lines: Callable[[str], list[str]]) -> None:
    text = "select /* ; */ 'a''b', $$c;d$$, 1 -- ; drop\n;"
    assert judge(text, warehouse.database, lines) == Question("SELECT 'a\\'b', 'c;d', 1")
