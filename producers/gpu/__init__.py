"""GPU sensors: one folder per kind of access to GPUs, with its sensor, its plug-in and its page.

A sensor returns readings (`intervals.GpuReading`): an energy counter in mJ, else watts, and the utilisation. The agent
turns readings into intervals by `intervals`, so a sensor keeps no energy itself. To add a maker, copy the example in
docs/write-a-source.md, which a test runs.

A sensor leaves out a GPU that cannot be read, and gives None for a value that cannot be read, never 0. If it can list
boards with their partitions and processes, it also has the methods of `producers.api.GpuInventory` (see `nvml/`).
"""
