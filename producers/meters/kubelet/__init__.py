"""CPU, memory, storage and network of a node's pods."""
