"""A SIMULATED fleet: its live stream (`events`), its past (`history`), and the reference data of both."""
