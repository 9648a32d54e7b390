"""Bills: quantities, energy and a price book in, line items out. Pure: no database, no HTTP, no clock.

`price_book`   rates, fees, discounts, credits, minimums, commitments and taxes of one book; its file and its checks.
`segments`     the stretches of a period in which the same rates are valid.
`rating`       quantities -> priced lines, by the most specific rate; tiers, packages, compute units.
`adjustments`  discounts, minimums, commitments, credits and taxes on the lines of one account.
`bills`        all of it in order, and the one rounding: lines sum to their invoice's total to the cent.
`corrections`  frozen lines and the lines as they would be now -> correction lines.

Amounts are exact fractions until that rounding (`billing.rounding`). An unknown price makes an open line, never 0.
"""
