"""Which workload holds which GPU, by whom that is told: the settings, Kubernetes, Slurm, or plain processes.

`split` and `board` are the pure rules, `hold` the words; `kubernetes`, `slurm` and `processes` make claims of what
others say; `kubelet`, `apiserver`, `proc`, `scontrol` and `topology` are the thin adapters that ask them. `look` asks
in the background and keeps what is known; `held` puts on record who held what.
"""
