"""Producers' own options, for the tests that hold documents against them."""

from __future__ import annotations

from producers import registry
from producers.runtime.config import ProducerConfig

CONFIGS: tuple[type[ProducerConfig], ...] = tuple(registry.options())


def variables(config: type[ProducerConfig]) -> set[str]:
    """The environment variables that an option may be given by."""
    return {f"{config.model_config['env_prefix']}{name}".upper() for name in config.model_fields}
