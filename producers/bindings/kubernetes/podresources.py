"""Messages of podresources.proto, which is beside this file, as descriptors written by hand.

Eight small messages are no reason for a compiler in the build, and its output would depend on one version of the
runtime.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

LIST = "/v1.PodResourcesLister/List"

MESSAGES: dict[str, tuple[tuple[str, str, int], ...]] = {
    "ListPodResourcesRequest": (),
    "ListPodResourcesResponse": (("pod_resources", "repeated PodResources", 1),),
    "PodResources": (
        ("name", "string", 1),
        ("namespace", "string", 2),
        ("containers", "repeated ContainerResources", 3),
    ),
    "ContainerResources": (
        ("name", "string", 1),
        ("devices", "repeated ContainerDevices", 2),
        ("dynamic_resources", "repeated DynamicResource", 5),
    ),
    "ContainerDevices": (("resource_name", "string", 1), ("device_ids", "repeated string", 2)),
    "DynamicResource": (
        ("claim_name", "string", 2),
        ("claim_namespace", "string", 3),
        ("claim_resources", "repeated ClaimResource", 4),
    ),
    "ClaimResource": (
        ("cdi_devices", "repeated CDIDevice", 1),
        ("driver_name", "string", 2),
        ("device_name", "string", 4),
    ),
    "CDIDevice": (("name", "string", 1),),
}
"""Fields of each message: name, type, number."""


def _file() -> descriptor_pb2.FileDescriptorProto:
    kind = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="wattlog/podresources.proto", package="v1", syntax="proto3")
    for message, fields in MESSAGES.items():
        descriptor = file.message_type.add(name=message)
        for name, declaration, number in fields:
            is_repeated, type_name = declaration.startswith("repeated "), declaration.removeprefix("repeated ")
            field = descriptor.field.add(name=name, number=number)
            field.label = kind.LABEL_REPEATED if is_repeated else kind.LABEL_OPTIONAL
            field.type = kind.TYPE_STRING if type_name == "string" else kind.TYPE_MESSAGE
            if type_name != "string":
                field.type_name = f".v1.{type_name}"
    return file


def _classes() -> dict[str, Any]:
    """Return the classes by message, from a pool of their own: another package may register the same names."""
    pool = descriptor_pool.DescriptorPool()
    pool.Add(_file())
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"v1.{name}")) for name in MESSAGES}


_BY_NAME = _classes()
ListPodResourcesRequest = _BY_NAME["ListPodResourcesRequest"]
ListPodResourcesResponse = _BY_NAME["ListPodResourcesResponse"]
