-- Access: shared
-- Tables and views, with the bytes of a row as the engine holds it.
SELECT
    t.name AS name, any(t.engine) AS engine, any(t.create_table_query) AS definition,
    any(ifNull(t.total_bytes_uncompressed, 0) / greatest(ifNull(t.total_rows, 0), 1)) AS row_bytes,
    arrayMap(p -> p.2, arraySort(groupArrayIf((c.position, c.name), c.default_kind NOT IN ('ALIAS', 'MATERIALIZED')))) AS columns
FROM system.tables AS t
INNER JOIN system.columns AS c ON c.database = t.database AND c.table = t.name
WHERE t.database = currentDatabase()
GROUP BY t.name
ORDER BY t.name
