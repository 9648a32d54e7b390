"""How the log is read: Faust's consumer group and lifecycle, and one of two ways from its consumer to the joiner.

`stock`: through Faust's conductor, channels and agents, message by message, as any Faust application. `lean` (later
in this package) hands on what aiokafka fetched, list by list. Both are `streams.reader.Reader`s.
"""

from __future__ import annotations
