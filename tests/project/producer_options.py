"""Producers' own options, for the tests that compare documents with them."""

from __future__ import annotations

from producers import registry
from producers.runtime.config import ProducerConfig

CONFIGS: tuple[type[ProducerConfig], ...] = tuple(registry.options())


def variables(config: type[ProducerConfig]) -> set[str]:
    """The environment variables of an option."""
    return {f"{config.model_config['env_prefix']}{name}".upper() for name in config.model_fields}
