-- Access: operator
-- Sources that sent tokens of some workloads. A source's text ends with the name of its workload, percent-encoded.
SELECT DISTINCT source
FROM sources FINAL
WHERE topic = {topic:String} AND arrayExists(name -> endsWith(source, name), {endings:Array(String)})
ORDER BY source
LIMIT {limit:UInt32}
