-- Access: shared
-- Former names of clusters, by name.
SELECT toString(alias) AS alias, toString(cluster) AS cluster
FROM cluster_aliases FINAL
ORDER BY alias
