-- Joules per 1,000,000 tokens by kind and model. A window's energy goes to its kinds by their work: tokens times weights.
-- Rows without token work (idle, images, request-seconds), and those whose weights are no longer stored, are left out.
WITH
    applied AS
    (
        SELECT
            t.model AS model, t.hardware AS hardware, t.version AS version,
            arrayMap(pair -> pair.2, arraySort(groupArray((
                (w.model = '*', w.hardware = '*'),
                (w.valid_from, w.valid_to, w.prompt_milli, w.cached_milli, w.completion_milli))))) AS candidates
        FROM (SELECT DISTINCT model, hardware, weights_version AS version FROM ledger FINAL WHERE final = 1) AS t
        CROSS JOIN work_weights AS w FINAL
        WHERE w.weights_version = t.version AND w.model IN (t.model, '*') AND w.hardware IN (t.hardware, '*')
        GROUP BY model, hardware, version
    ),
    split AS
    (
        SELECT
            l.model AS model,
            arrayFirst(c -> c.1 <= l.window_start AND l.window_start < c.2, a.candidates) AS weights,
            toInt128(l.active_uj) + toInt128(l.idle_uj) AS energy_uj,
            l.prompt_tokens - l.cached_tokens AS input, l.cached_tokens AS cached, l.completion_tokens AS output,
            toInt128(input) * weights.3 AS input_work, toInt128(cached) * weights.4 AS cached_work,
            toInt128(output) * weights.5 AS output_work, input_work + cached_work + output_work AS work
        FROM ledger AS l FINAL
        INNER JOIN applied AS a ON a.model = l.model AND a.hardware = l.hardware AND a.version = l.weights_version
        WHERE l.final = 1 AND l.method != 3 AND work != 0
    )
SELECT
    model,
    round(toFloat64(sum(intDiv(toInt128(energy_uj) * input_work, work))) / nullIf(sum(input), 0)) AS joules_per_million_input,
    round(toFloat64(sum(intDiv(toInt128(energy_uj) * cached_work, work))) / nullIf(sum(cached), 0)) AS joules_per_million_cached,
    round(toFloat64(sum(intDiv(toInt128(energy_uj) * output_work, work))) / nullIf(sum(output), 0)) AS joules_per_million_output
FROM split
GROUP BY model
ORDER BY model
