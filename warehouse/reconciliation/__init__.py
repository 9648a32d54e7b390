"""Reconciliation: every quantity that two sources tell is compared, by workload and hour, and differences get a name.

`witnesses` are pairs of series, `differences` measures how two series part, `judgement` names what is wrong, and
`words` says it. All of these are pure. `reads` asks the warehouse for the series, and `records` keeps the result.
"""
