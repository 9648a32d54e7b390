"""Exports: a month's lines as one file that other programs read.

`bill_export`   what is exported: lines, proof, and how they sum.
`formats`       the formats: their file names, media types and writers.
`parquet_file`, `spreadsheet`, `focus_files`, `cloud_events`   the writers.

A file is written to a binary stream, block by block. The same closed month gives the same bytes.
"""
