"""The designs that are compared. Each is a program: `python -m bench.contestants.NAME JOB.json`."""
