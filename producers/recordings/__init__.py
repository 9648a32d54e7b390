"""Recordings: files in, an iterator of numbered events out. They use no broker and no clock; the command line
publishes the events.

Read in this order: `base` (the shape of a recording), `text_lines` (text files), `csv_table`
(their columns), `batches` (rows to events). Each
folder is a format: `mlperf`, `azure`, `csv`. docs/replay.md is for their users.
"""
