"""Run:ai: what its control plane measures of workloads and pods, as metered quantities over windows of time.

`schedule`, `windows`, `meters`, `answers` and `normalise` are pure; `client` and `listing` ask the API, `source` is the
step of a collector, `produce` what `wattlog produce runai` runs.
"""
