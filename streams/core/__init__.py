"""The pure core, in the order of the flow.

reading     messages -> believed events; the watermark
sequence    which events have been seen
spread      amounts over time -> windows, and totals over shares, in exact integers
sums        integers per window and entity
windows     the open windows of one log partition: energy and work, both sums
requests    single requests, and their share of a window's joules
texts       what is said of single requests, as blocks of bytes
policy      idle floors and work weights, valid by event time
facts       what attribution takes, as columns
grouping    columns in the text order of their names
split       energy by hardware, work by tenant, the one divided by the other
ledger_table   the split as ledger rows
attribute   facts -> ledger rows, the parts summing to the whole
late        facts for windows that are final already
stored      keys that the warehouse holds, so that what is gone is taken away
partition   finality, marks, acknowledgement: the crash rule
mark        what is remembered across a restart
restate     late facts into a window that is already final
versions    which row wins
"""
