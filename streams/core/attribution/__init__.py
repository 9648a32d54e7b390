"""Attribution: the energy of a window, split over the tenants whose requests ran on it.

The rule, for one window of one workload and one hardware type with measured energy E (µJ) over S GPU-milliseconds:

    1. idle = min(E, idle_mw * S), where 1 mW for 1 ms is 1 µJ; active = E - idle.
    2. With work, tenants pay by work: weights * (computed prompt, cached prompt, completion) tokens.
       Idle energy is shared likewise and kept in a column of its own (policy `by-work`); with `owner` or `apart`,
       the workload's owner or `__idle__` bears it.
       Where requests ran and none has token work (images, audio, prompts all cached), work is request-seconds.
    3. Without requests, all of E is idle: the workload's owner pays, or `__idle__`.
    4. Energy of GPUs without a workload is `__unallocated__`, per node. Tokens without measured energy get a row with
       energy 0 and method `unmetered`.
    5. With several hardware types, a tenant's tokens and work are divided over them as their energy is. What is no GPU
       (`contracts.boundary.part_of`: a node's host, its wall) bears none of them where GPUs of the group have energy.
    6. A request gets its share, by work, of its tenant's rows.

Shares are integers by largest remainder (`streams.core.apportion`), and the parts sum to E exactly. The numbers are
those of "The rule" in docs/ARCHITECTURE.md.

**The one place where joules are split over tenants is `split.split_energy_over_tenants`.** Two others follow it:
`ledger_rows.ledger_rows_of` charges energy that no work bears to an owner, `__idle__` or `__unallocated__`, and
`attribute.attribute_requests` divides a tenant's energy among its requests.

    `facts`        input: energy and tokens as columns.
    `policy`       idle floors and work weights, valid by event time.
    `grouping`     group and sort columns by name.
    `split`        energy by hardware, work by tenant, and the first divided by the second.
    `ledger_rows`  the split as rows of the ledger, checked to sum to what was measured.
    `attribute`    the entry point: facts -> ledger rows, and a tenant's energy -> its requests.
"""
