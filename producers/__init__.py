"""Hardware and servers -> log. Sampling is pure (`meter`); NVML and the simulated fleet are thin adapters.

Read in this order: `meter` (readings to intervals), `numbering` (identities of events), `publish` (to Kafka),
`agent` (the loop of a node), `nvml`, `fleet` and `simulated`, `history`.
"""
