-- Access: tenant
-- Final windows, as chargeback.sql adds them up, with the energy of each kind of token: computed prompt, cached prompt and
-- completion tokens.
--
-- A row's active and idle energy goes to its kinds in proportion to their work: its whole tokens times the weights that
-- it names, the closest match of those valid then, as attribution applied them (applied_weights.sql in warehouse/ledger).
-- The parts sum to the energy. Without token work (idle hours, images, request-seconds) there is no kind. Energy of rows
-- whose weights are not stored any more, as `unknown_uj`, cannot be divided.
SELECT
    r.*,
    toInt128(r.prompt_tokens - r.cached_tokens) * weights.3 AS input_work, toInt128(r.cached_tokens) * weights.4 AS cached_work,
    toInt128(r.completion_tokens) * weights.5 AS output_work, input_work + cached_work + output_work AS all_work,
    arrayFirst(w -> w.1 <= at_ms AND at_ms < w.2, k.candidates) AS weights,
    toInt128(r.active_uj) + toInt128(r.idle_uj) AS tenant_uj,
    if(all_work > 0, intDiv(tenant_uj * cached_work, all_work), 0) AS cached_uj,
    if(output_work = 0, 0, if(input_work = 0, tenant_uj - cached_uj, intDiv(tenant_uj * output_work, all_work))) AS output_uj,
    if(input_work = 0, 0, tenant_uj - cached_uj - output_uj) AS input_uj,
    if(r.weights_version < 1000000000 AND r.prompt_tokens + r.completion_tokens != 0 AND weights.2 = 0, tenant_uj, 0) AS unknown_uj
FROM
(
    SELECT
        t.window_start AS at, toUnixTimestamp64Milli(t.window_start) AS at_ms, t.tenant AS tenant, $cluster{t.cluster} AS cluster,
        t.workload AS workload, t.model AS model, t.hardware AS hardware, $dimensions{t.@ AS @},
        t.active_uj AS active_uj, t.idle_uj AS idle_uj, t.unallocated_uj AS unallocated_uj, $tokens{t.@ AS @},
        t.requests AS requests, t.failures AS failures, t.method AS method, t.weights_version AS weights_version
    FROM ledger AS t FINAL
    WHERE t.window_start >= fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
      AND t.window_start < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
      AND t.final = 1
      AND (empty({tenants:Array(String)}) OR t.tenant IN {tenants:Array(String)})
      AND $cluster_in{t.cluster}
      AND $within{t.hardware}
) AS r
LEFT ANY JOIN
(
    SELECT
        n.model AS model, n.hardware AS hardware, n.weights_version AS weights_version,
        arrayMap(pair -> pair.2, arraySort(groupArray((
            (w.model = '*', w.hardware = '*'),
            (toUnixTimestamp64Milli(w.valid_from), toUnixTimestamp64Milli(w.valid_to), w.prompt_milli, w.cached_milli, w.completion_milli))))) AS candidates
    FROM
    (
        SELECT DISTINCT t.model AS model, t.hardware AS hardware, t.weights_version AS weights_version
        FROM ledger AS t
        WHERE t.window_start >= fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
          AND t.window_start < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
    ) AS n
    CROSS JOIN (SELECT * FROM work_weights FINAL) AS w
    WHERE w.weights_version = n.weights_version AND w.model IN (n.model, '*') AND w.hardware IN (n.hardware, '*')
    GROUP BY model, hardware, weights_version
) AS k ON k.model = r.model AND k.hardware = r.hardware AND k.weights_version = r.weights_version
