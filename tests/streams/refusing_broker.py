"""librdkafka's in-process broker, set to refuse requests, as a real one does at moments that no test can choose."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from confluent_kafka import cimpl

OFFSET_FETCH = 9
"""The protocol's number of the request for a group's committed offsets."""
_PRODUCER = 0


@dataclass(frozen=True)
class RefusingBroker:
    """The broker's address, and functions that make it refuse. Errors are the protocol's."""

    bootstrap: str
    refuse: Callable[[int, int, int], None]
    """`refuse(request, error, times)`: the next so many requests of a kind are answered with this error."""
    about: Callable[[str, int], None]
    """`about(topic, error)`: requests about this topic get this error; 0: none."""


@contextmanager
def refusing_broker() -> Iterator[RefusingBroker]:
    """Run one broker on loopback, which creates topics on demand.

    confluent-kafka has no interface for this; its C library has (rdkafka_mock.h).
    """
    rd = _library()
    conf = rd.rd_kafka_conf_new()
    for name, value in ((b"test.mock.num.brokers", b"1"), (b"log_level", b"0")):
        assert rd.rd_kafka_conf_set(conf, name, value, None, 0) == 0
    owner = rd.rd_kafka_new(_PRODUCER, conf, None, 0)
    cluster = rd.rd_kafka_handle_mock_cluster(owner)
    rd.rd_kafka_mock_group_initial_rebalance_delay_ms(cluster, 0)

    def refuse(request: int, error: int, times: int) -> None:
        rd.rd_kafka_mock_push_request_errors_array(cluster, request, times, (ctypes.c_int * times)(*[error] * times))

    def about(topic: str, error: int) -> None:
        rd.rd_kafka_mock_topic_set_error(cluster, topic.encode(), error)

    try:
        yield RefusingBroker(rd.rd_kafka_mock_cluster_bootstraps(cluster).decode(), refuse, about)
    finally:
        rd.rd_kafka_destroy(owner)


def _library() -> ctypes.CDLL:
    library = ctypes.CDLL(cimpl.__file__)  # Its symbols, and those of its dependencies.
    pointer, text, size = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t
    for name, result, *arguments in (
        ("rd_kafka_conf_new", pointer),
        ("rd_kafka_conf_set", ctypes.c_int, pointer, text, text, text, size),
        ("rd_kafka_new", pointer, ctypes.c_int, pointer, text, size),
        ("rd_kafka_destroy", None, pointer),
        ("rd_kafka_handle_mock_cluster", pointer, pointer),
        ("rd_kafka_mock_cluster_bootstraps", text, pointer),
        ("rd_kafka_mock_group_initial_rebalance_delay_ms", None, pointer, ctypes.c_int32),
        ("rd_kafka_mock_topic_set_error", None, pointer, text, ctypes.c_int),
        ("rd_kafka_mock_push_request_errors_array", None, pointer, ctypes.c_int16, size, ctypes.POINTER(ctypes.c_int)),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library
