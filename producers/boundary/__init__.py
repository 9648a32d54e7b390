"""Energy of a node beside its GPUs', split over the workloads on them: its host's, or the wall's less the GPUs'."""
