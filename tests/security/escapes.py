"""Corpus of SQL that tries to leave the caller's own rows: each is refused, or answers with those rows only.

`FILE` and `OTHERS` stand for a file with a secret and for a column of another tenant.
"""

from __future__ import annotations

import textwrap

READS_FILES = """
SELECT file('FILE')
SELECT FILE('FILE')
SELECT `file`('FILE')
SELECT "file"('FILE')
SELECT * FROM file('FILE', 'LineAsString')
SELECT * FROM file('FILE')
SELECT * FROM 'FILE'
SELECT * FROM `FILE`
SELECT * FROM default.`FILE`
SELECT * FROM fileCluster('default', 'FILE', 'LineAsString')
SELECT 1 WHERE 'x' IN (SELECT * FROM file('FILE', 'LineAsString'))
SELECT 'x' IN file('FILE', 'LineAsString')
SELECT arrayMap(file, ['FILE'])
SELECT arrayMap(x -> file(x), ['FILE'])
SELECT arrayFilter(x -> file(x) != '', ['FILE'])
SELECT mapApply((k, v) -> (k, file(v)), map('a', 'FILE'))
SELECT * APPLY(file) FROM (SELECT 'FILE')
SELECT * APPLY file FROM (SELECT 'FILE')
SELECT t.* APPLY(file) FROM (SELECT 'FILE') AS t
SELECT * APPLY(x -> file(x)) FROM (SELECT 'FILE')
SELECT COLUMNS('n') APPLY(file) FROM (SELECT 'FILE' AS n)
SELECT t.COLUMNS('n') APPLY(file) FROM (SELECT 'FILE' AS n) AS t
SELECT COLUMNS(n) APPLY(file) FROM (SELECT 'FILE' AS n)
SELECT * EXCEPT(b) APPLY(file) FROM (SELECT 'FILE' AS a, 1 AS b)
SELECT * REPLACE(file(a) AS a) FROM (SELECT 'FILE' AS a)
SELECT * APPLY(toString) APPLY(file) FROM (SELECT 'FILE')
EXPLAIN SELECT * APPLY(file) FROM (SELECT 'FILE')
EXPLAIN AST SELECT * APPLY(file) FROM (SELECT 'FILE')
EXPLAIN SYNTAX SELECT file('FILE')
EXPLAIN QUERY TREE SELECT * APPLY(file) FROM (SELECT 'FILE')
EXPLAIN PLAN SELECT (SELECT * APPLY(file) FROM (SELECT 'FILE'))
EXPLAIN PIPELINE SELECT file('FILE')
SELECT * FROM (EXPLAIN SELECT file('FILE'))
SELECT * FROM viewExplain('EXPLAIN', '', (SELECT file('FILE')))
SELECT (SELECT * APPLY(file) FROM (SELECT 'FILE'))
WITH t AS (SELECT * APPLY(file) FROM (SELECT 'FILE')) SELECT * FROM t
WITH (SELECT file('FILE')) AS x SELECT x
WITH (x -> file(x)) AS f SELECT f('FILE')
WITH file AS f SELECT f('FILE')
SELECT 1 UNION ALL SELECT file('FILE')
SELECT 1 EXCEPT SELECT length(file('FILE'))
SELECT if(1, file('FILE'), '')
SELECT CASE WHEN 1 THEN file('FILE') END
SELECT toString(tuple(file('FILE')))
SELECT tenant FROM ledger ORDER BY file('FILE')
SELECT tenant FROM ledger GROUP BY tenant, file('FILE')
SELECT tenant FROM ledger WHERE active_uj = length(file('FILE'))
SELECT tenant FROM ledger LIMIT length(file('FILE'))
SELECT sum(active_uj) OVER (PARTITION BY file('FILE')) FROM ledger
SELECT number FROM numbers(length(file('FILE')))
SELECT * FROM view(SELECT file('FILE'))
SELECT * FROM viewIfPermitted(SELECT file('FILE') ELSE null('x String'))
SELECT * FROM loop(file('FILE', 'LineAsString'))
SELECT * FROM python('FILE')
SELECT * FROM Python(x)
SELECT * FROM executable('FILE', 'TSV', 'x String')
SELECT * FROM sqlite('FILE', 'x')
SELECT * FROM input('x String') FORMAT CSV
SELECT catboostEvaluate('FILE', 1)
SELECT evalMLMethod('FILE', 1)
SELECT naiveBayesClassifier('FILE', 'x')
SELECT 1 /* */ , file /* */ ('FILE') -- x
SELECT 1; SELECT file('FILE')
SELECT 1 INTO OUTFILE 'FILE.out'
SELECT 1 INTO OUTFILE 'FILE.out' TRUNCATE FORMAT CSV
INSERT INTO FUNCTION file('FILE.out', 'CSV') SELECT 1
DESCRIBE file('FILE')
DESCRIBE TABLE (SELECT file('FILE'))
CREATE FUNCTION f AS x -> file(x)
CREATE TABLE t (x String) ENGINE = File(CSV, 'FILE')
CREATE VIEW v AS SELECT file('FILE')
ATTACH TABLE t FROM 'FILE' (x String) ENGINE = MergeTree ORDER BY x
BACKUP DATABASE default TO File('FILE.out')
RESTORE DATABASE default FROM File('FILE')
SELECT dictGet('FILE', 'x', 1)
SELECT * FROM dictionary('FILE')
SELECT hasColumnInTable('127.0.0.1', 'system', 'one', 'dummy')
"""

REACHES_OUT = """
SELECT * FROM url('http://127.0.0.1:9/', 'CSV', 'x String')
SELECT * FROM urlCluster('default', 'http://127.0.0.1:9/', 'CSV', 'x String')
SELECT * FROM s3('http://127.0.0.1:9/b/k', 'CSV', 'x String')
SELECT * FROM s3Cluster('default', 'http://127.0.0.1:9/b/k', 'CSV', 'x String')
SELECT * FROM gcs('http://127.0.0.1:9/b/k', 'CSV', 'x String')
SELECT * FROM azureBlobStorage('http://127.0.0.1:9/', 'c', 'b')
SELECT * FROM hdfs('hdfs://127.0.0.1:9/x', 'CSV', 'x String')
SELECT * FROM iceberg('http://127.0.0.1:9/t')
SELECT * FROM icebergLocal('/')
SELECT * FROM deltaLake('http://127.0.0.1:9/t')
SELECT * FROM hudi('http://127.0.0.1:9/t')
SELECT * FROM remote('127.0.0.1', system.one)
SELECT * FROM remoteSecure('127.0.0.1', system.one)
SELECT * FROM cluster('default', system.one)
SELECT * FROM clusterAllReplicas('default', system.one)
SELECT * FROM mysql('127.0.0.1:9', 'd', 't', 'u', 'p')
SELECT * FROM postgresql('127.0.0.1:9', 'd', 't', 'u', 'p')
SELECT * FROM mongodb('127.0.0.1:9', 'd', 't', 'u', 'p', 'x String')
SELECT * FROM redis('127.0.0.1:9', 'k', 'k String')
SELECT * FROM jdbc('x', 'y')
SELECT * FROM odbc('DSN=x', 'd', 't')
SELECT aiGenerate('x')
"""

TELLS_OF_THE_HOST = """
SELECT hostName()
SELECT FQDN()
SELECT serverUUID()
SELECT currentUser()
SELECT user()
SELECT getMacro('x')
SELECT getSetting('max_threads')
SELECT getServerSetting('path')
SELECT getServerPort('tcp_port')
SELECT initialQueryID()
SELECT queryID()
SELECT tcpPort()
SELECT uptime()
SELECT version()
SELECT buildId()
SELECT connectionId()
SELECT filesystemAvailable()
SELECT getOSKernelVersion()
SELECT showCertificate()
SELECT addressToLine(1)
SELECT addressToSymbol(1)
SELECT getClientHTTPHeader('authorization')
SELECT zookeeperSessionUptime()
SELECT * FROM system.query_log
SELECT * FROM system.processes
SELECT * FROM system.settings
SELECT * FROM system.server_settings
SELECT * FROM system.parts
SELECT * FROM system.disks
SELECT * FROM system.users
SELECT * FROM system.grants
SELECT * FROM system.row_policies
SELECT * FROM system.clusters
SELECT * FROM system.stack_trace
SELECT * FROM system.asynchronous_metrics
SELECT * FROM SYSTEM.parts
SELECT * FROM `system`.`parts`
SELECT * FROM information_schema.schemata
SHOW PROCESSLIST
SHOW GRANTS
SHOW SETTINGS LIKE '%'
SHOW TABLES FROM system
SHOW CREATE TABLE system.parts
DESCRIBE system.parts
"""

READS_OTHERS = """
SELECT * FROM merge('.*', 'ledger')
SELECT * FROM merge(currentDatabase(), '.*')
SELECT * FROM loop(ledger)
SELECT * FROM mergeTreeIndex(currentDatabase(), ledger)
SELECT * FROM mergeTreeProjection(currentDatabase(), ledger, p)
SELECT * FROM mergeTreeAnalyzeIndexes(currentDatabase(), ledger)
SELECT * FROM mergeTreeTextIndex(currentDatabase(), ledger, i)
SELECT * FROM dictionary('ledger')
SELECT joinGet('ledger', 'active_uj', 'OTHERS')
SELECT dictGet('ledger', 'active_uj', 'OTHERS')
SELECT * FROM viewIfPermitted(SELECT * FROM ledger ELSE null('x String'))
SELECT * FROM gpu_energy
SELECT * FROM sources
SELECT * FROM usage_ids
SELECT * FROM reconciliation
SELECT * FROM marks
SELECT * FROM claims
SELECT tenant FROM ledger
SELECT tenant FROM ledger FINAL WHERE 1 OR tenant = 'OTHERS'
SELECT groupUniqArray(tenant) FROM ledger_hour
SELECT DISTINCT tenant FROM ledger_day
SELECT tenant FROM requests UNION ALL SELECT tenant FROM usage UNION ALL SELECT tenant FROM tenants
SELECT toUInt8(tenant) FROM ledger
SELECT CAST(tenant AS UInt8) FROM ledger
SELECT tenant::Date FROM ledger
SELECT throwIf(tenant = 'OTHERS', 'yes') FROM ledger
SELECT intDiv(1, tenant != 'OTHERS') FROM ledger
SELECT parseDateTime(tenant, '%Y') FROM ledger
SELECT JSONExtract(tenant, 'x') FROM ledger
SELECT * FROM ledger PREWHERE intDiv(1, active_uj - active_uj) = 0
EXPLAIN ESTIMATE SELECT * FROM ledger
EXPLAIN PLAN indexes = 1 SELECT * FROM ledger
EXPLAIN indexes = 1, projections = 1 SELECT * FROM ledger WHERE tenant = 'OTHERS'
WITH RECURSIVE t AS (SELECT tenant FROM ledger UNION ALL SELECT tenant FROM t) SELECT * FROM t
SELECT * FROM ledger SETTINGS additional_table_filters = {}
SELECT * FROM (SELECT * FROM ledger SETTINGS readonly = 0)
SELECT 1 SETTINGS readonly = 0
SET readonly = 0
SELECT 1 FORMAT CSV
SELECT 1 PARALLEL WITH SELECT 2
DROP TABLE ledger
ALTER TABLE ledger DELETE WHERE 1
GRANT ALL ON *.* TO default
SYSTEM SHUTDOWN
KILL QUERY WHERE 1
USE system
"""

TAKES_TOO_MUCH = """
SELECT sleep(3)
SELECT sleepEachRow(3) FROM numbers(100)
SELECT * FROM generateRandom('x String', 1, 10000000) LIMIT 100000000
SELECT sum(sipHash64(number)) FROM numbers(1000000000000)
SELECT groupArray(number) FROM numbers(100000000000)
SELECT length(repeat(repeat('x', 1000000), 1000000))
SELECT range(400000000), range(400000001), range(400000002)
SELECT count() FROM numbers(10000000000) AS a CROSS JOIN numbers(10000000000) AS b
SELECT arrayWithConstant(1000000000, 'x')
SELECT space(10000000000)
SELECT match(repeat('a', 100000), '(a*)*(a*)*(a*)*b')
SELECT replaceRegexpAll(repeat('a', 1000000), 'a', repeat('b', 10000))
SELECT multiMatchAny('x', ['(.{1,1000}){1,1000}'])
SELECT groupArrayInsertAt(1, 4000000000)(number) FROM numbers(10)
SELECT quantilesExact(0.1)(number) FROM numbers(100000000000)
"""


def lines(corpus: str) -> list[str]:
    """The statements of a corpus, one a line."""
    return textwrap.dedent(corpus).strip().splitlines()
