"""CPU, memory, storage and network of a node and its cgroups."""
