-- Access: operator
-- Names of tenants, clusters, hardware types and models that somebody stored: they are known before their first row.
SELECT 'tenant' AS kind, toString(tenant) AS name FROM tenants FINAL
UNION DISTINCT
SELECT 'cluster', toString(cluster) FROM clusters FINAL
UNION DISTINCT
SELECT 'cluster', toString(cluster) FROM prices FINAL
UNION DISTINCT
SELECT 'cluster', arrayJoin([toString(alias), toString(cluster)]) FROM cluster_aliases FINAL
UNION DISTINCT
SELECT 'hardware', toString(hardware) FROM idle_floors FINAL
UNION DISTINCT
SELECT 'hardware', toString(hardware) FROM work_weights FINAL
UNION DISTINCT
SELECT 'model', toString(model) FROM work_weights FINAL
