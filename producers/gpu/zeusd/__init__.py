"""zeusd, ML.ENERGY's daemon: energy of GPUs and CPUs over HTTP, from a process that may read what others may not."""
