"""Stand-ins, clocks, waits, builders and oracles that tests of several folders share."""
