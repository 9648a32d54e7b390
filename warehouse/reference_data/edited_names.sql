-- Access: operator
-- Names of tenants and clusters that somebody stored: they are known before their first row.
SELECT 'tenant' AS kind, toString(tenant) AS name FROM tenants FINAL
UNION DISTINCT
SELECT 'cluster', toString(cluster) FROM clusters FINAL
UNION DISTINCT
SELECT 'cluster', toString(cluster) FROM prices FINAL
