"""Bindings: which workload holds which GPU, by the settings, Kubernetes, Slurm, or plain processes.

A source reports claims on devices (`claims`); `resolution` resolves them into the shares of each GPU, and `apportion`
splits a shared GPU's energy. `watcher` reads the sources in the background and keeps the current shares;
`holder_record` records the holders. `kubernetes`, `slurm` and `processes` are the sources.
"""
