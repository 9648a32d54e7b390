"""Billing in the warehouse: what a period holds, the price books, and the bills of closed periods.

`references`   the prices and tenants that a bill reads: those of today, or those that a closing froze.
`quantities`   tokens, GPU time and usage of a period, and its energy with money, as `billing` takes them.
`books`        versions of the price book.
`periods`      closings and reopenings of periods.
`bill_lines`   the lines of closed periods.
"""
