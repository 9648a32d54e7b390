"""Run:ai: its control plane's metrics of workloads and pods, as metered quantities over windows of time.

`schedule`, `windows`, `meters`, `responses` and `normalise` are pure. `client` and `listing` call the API, and
`source` is the polled source.
"""
