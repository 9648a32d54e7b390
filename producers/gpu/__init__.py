"""GPU sensors: one folder per kind of access to GPUs, with its sensor, its plug-in and its page.

A sensor returns readings (`intervals.GpuReading`): an energy counter in mJ, else watts, and the utilisation. The agent
turns readings into intervals by `intervals`, so a sensor keeps no energy itself. To add a maker, write a folder like
`zeusd/`: a sensor with the methods of `producers.api.GpuSensor`, a `plugin.py` with its options, and a README.md.

A sensor leaves out a GPU that cannot be read, and gives None for a value that cannot be read, never 0. If it can list
boards with their partitions and processes, it also has the methods of `producers.api.GpuInventory` (see `nvml/`).
"""
