"""The pure core, in the order of the flow.

spread      amounts over time -> windows, in exact integers
sequence    which events have been seen
windows     the open windows of one log partition: energy and work, both sums
policy      idle floors and work weights, valid by event time
attribute   facts -> ledger rows, the parts summing to the whole
partition   watermark, finality, late facts, marks, acknowledgement: the crash rule
restate     a late fact into a window that is already final
versions    which row wins
"""
