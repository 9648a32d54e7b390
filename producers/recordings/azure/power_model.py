"""Power model for traces that have requests but no watts. Its figures are SIMULATED, and its intervals `estimated`.

It models one server of `gpus` equal GPUs. Requests are prefilled one after the other in order of arrival (a
prefill fills the GPUs), then decode side by side. Every GPU draws `idle_w` all the time. A prompt token adds
`prefill_j_per_token` over its prefill, a completion token `decode_j_per_token` over its decoding. The GPUs share
equally in what is added. Energy is in integers: that of every token is in exactly once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from contracts.errors import BadInput
from contracts.events import MAX_SPAN_MS
from contracts.units import UJ_PER_J

STEP_US = 1_000_000
"""Length of an interval, in microseconds: whole seconds."""


@dataclass(slots=True, frozen=True)
class PowerModel:
    """Coefficients for a dense model of 70 billion parameters in BF16 on 8 H100 SXM. Their sources:

    * `idle_w`, and the 631.95 W under load used below: `power.draw` of an H100 80GB HBM3, idle and under load.
      The samples are nvidia_gpu_exporter's `/metrics`.
    * `prefill_tokens_per_s`: 8 x 989.4e12 FLOP/s over 2 x 70e9 FLOP a token, at 40 % utilisation (an assumption).
      The FLOP/s are NVIDIA's data sheet's, BF16 dense.
    * `prefill_j_per_token`: 8 x (631.95 - 69.85) W over that rate. A GPU that prefills draws 632 W.
    * `decode_j_per_token`: the geometric mean of 0.373 and 3.76 J. They are the best and the batch-of-8 figure for
      Llama-3.1-70B on H100 in the ML.ENERGY benchmark v3.
    * `decode_tokens_per_s`, of one request: an assumption, about 31 ms a token.

    There is no cap: a prefill beside many decodes may exceed a board's limit a little (716 W of 700 W at most on
    Azure's code trace). All figures of this model rest on these assumptions: give your own if you know better.
    """

    hardware: str = "H100 (modelled)"
    gpus: int = 8
    idle_w: float = 69.85
    prefill_tokens_per_s: float = 22_600.0
    decode_tokens_per_s: float = 32.0
    prefill_j_per_token: float = 0.199
    decode_j_per_token: float = 1.184

    def __post_init__(self) -> None:
        for name in ("gpus", "prefill_tokens_per_s", "decode_tokens_per_s"):
            if not getattr(self, name) > 0:
                raise BadInput(name, getattr(self, name), "must be more than 0")
        for name in ("idle_w", "prefill_j_per_token", "decode_j_per_token"):
            if not getattr(self, name) >= 0:
                raise BadInput(name, getattr(self, name), "must be 0 or more")


class ServedRequest(NamedTuple):
    """Times at which a request was prefilled and done, in UTC epoch microseconds."""

    prefill_us: int
    first_us: int
    end_us: int


class ServerSecond(NamedTuple):
    """One second of the server: the energy of each GPU, in microjoules."""

    t_ms: int
    energy_uj: tuple[int, ...]


class ModelledServer:
    """Runs the model. Offer requests in order of arrival; take the seconds that no later request can change."""

    def __init__(self, model: PowerModel) -> None:
        self._gpus = model.gpus
        self._idle_uj = round(model.idle_w * UJ_PER_J) * model.gpus
        self._prefill_uj = round(model.prefill_j_per_token * UJ_PER_J)
        self._decode_uj = round(model.decode_j_per_token * UJ_PER_J)
        self._prefill_rate, self._decode_rate = model.prefill_tokens_per_s, model.decode_tokens_per_s
        self._free_us = 0
        self._added: dict[int, int] = {}
        """Energy above idle by second: as many entries as the longest request has seconds."""
        self._next_s: int | None = None
        self._end_us = 0
        self._turn = 0

    def offer(self, arrival_us: int, prompt_tokens: int, completion_tokens: int) -> ServedRequest:
        """Serve one request that arrives no earlier than those before it.

        Raises BadInput for one that would take longer than an event may last, and leaves it out.
        """
        prefill = max(arrival_us, self._free_us)
        first = prefill + round(prompt_tokens * 1e6 / self._prefill_rate)
        end = first + round(completion_tokens * 1e6 / self._decode_rate)
        if end - arrival_us > MAX_SPAN_MS * 1000:
            decoding = end - first > first - arrival_us
            column, tokens = ("GeneratedTokens", completion_tokens) if decoding else ("ContextTokens", prompt_tokens)
            raise BadInput(column, tokens, "would be served for more than 6 hours")
        if self._next_s is None:
            self._next_s = arrival_us // STEP_US
        self._free_us = first
        self._add(prefill, first, prompt_tokens * self._prefill_uj)
        self._add(first, end, completion_tokens * self._decode_uj)
        self._end_us = max(self._end_us, end)
        return ServedRequest(prefill, first, end)

    def until(self, us: int) -> Iterator[ServerSecond]:
        """Yield the seconds that end by `us` and were not yielded before."""
        while self._next_s is not None and (self._next_s + 1) * STEP_US <= us:
            yield self._second(self._next_s)
            self._next_s += 1

    def drain(self) -> Iterator[ServerSecond]:
        """Yield the seconds up to the end of the last request."""
        return self.until(-(-self._end_us // STEP_US) * STEP_US)

    def _add(self, from_us: int, to_us: int, energy_uj: int) -> None:
        """Spread energy evenly over `[from_us, to_us)`. If that is empty, all of it is in the second of `from_us`."""
        if to_us <= from_us:
            self._added[from_us // STEP_US] = self._added.get(from_us // STEP_US, 0) + energy_uj
            return
        sent = 0
        for second in range(from_us // STEP_US, -(-to_us // STEP_US)):
            upto = energy_uj * (min(to_us, (second + 1) * STEP_US) - from_us) // (to_us - from_us)
            self._added[second] = self._added.get(second, 0) + upto - sent
            sent = upto

    def _second(self, second: int) -> ServerSecond:
        total = self._idle_uj + self._added.pop(second, 0)
        share_uj, remainder_uj = divmod(total, self._gpus)
        # The remainder of the division goes round the GPUs, so that none is favoured.
        shares = [share_uj + ((g - self._turn) % self._gpus < remainder_uj) for g in range(self._gpus)]
        self._turn = (self._turn + remainder_uj) % self._gpus
        return ServerSecond(second * 1000, tuple(shares))
