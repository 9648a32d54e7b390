"""Checkpoint of the agent, as it is stored in the spool. The names of its fields on disk must not change."""

from __future__ import annotations

import msgspec

from producers.bindings.apportion import Binding, BindingShare, GpuShares
from producers.gpu.meter_state import MeterState
from producers.gpu.watts_record import WattsSpan

CHECKPOINT_PREFIX = "gpu/"
"""Prefix of a checkpoint's name in the spool; the GPU's UUID follows."""


class AgentCheckpoint(msgspec.Struct, frozen=True):
    """Checkpoint of one GPU, stored as MessagePack.

    `boot` identifies the boot of the machine: hardware counters and the monotonic clock restart with each.
    `shares` is empty where `holder` alone has the GPU and nothing more is known of it. `unrecorded_ms` is the start and
    the end of the time whose holders are not recorded yet (`producers.bindings.holder_record`); (0, 0) for none.
    `watts` is the energy by watts that is not recorded yet (`producers.gpu.watts_record`).
    """

    boot: str
    holder: Binding
    state: MeterState
    shares: GpuShares = ()
    unrecorded_ms: tuple[int, int] = msgspec.field(default=(0, 0), name="told")  # the name in stored checkpoints
    watts: WattsSpan | None = None

    @property
    def current_shares(self) -> GpuShares:
        return self.shares or (BindingShare(self.holder),)
