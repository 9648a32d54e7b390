"""Energy of a node's CPUs and memory: apart from its GPUs', and from PUE."""
