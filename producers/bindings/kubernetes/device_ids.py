"""Ids of devices as device plugins give them to the kubelet, resolved to GPUs and MIG instances. Pure.

| id | device plugin |
| --- | --- |
| `GPU-...`, `MIG-...` | NVIDIA's |
| `GPU-...::3` | NVIDIA's, replica 3 of a time-sliced GPU, or of one under MPS |
| `GPU-...-3` | HAMi's and older ones, share 3 of a GPU |
| `nvidia0`, `nvidia0/vgpu3`, `nvidia0/gi1`, `nvidia0/gi1/vgpu3` | GKE's: by /dev/nvidia0, a share of it, an instance |
| `0`, `0:1` | by the driver's numbers of a GPU, and of an instance on it |

An id is matched whole. One that names no visible device is returned as it is: then it is a warning that names it.
"""

from __future__ import annotations

import re
from collections.abc import Container, Mapping

_SHARE = re.compile(r"(?P<device>.+?)(?:::(?P<replica>\d*)|/(?P<vgpu>vgpu\d+)|-(?P<share>\d{1,4}))", re.ASCII)


def resolve_id(device_id: str, devices: Container[str], names: Mapping[str, str]) -> tuple[str, str]:
    """Return the device and the replica ("" for the whole) that an id names.

    `devices` are the UUIDs that can be claimed, `names` the devices by their other names.
    """
    if device := _device(device_id, devices, names):
        return device, ""
    match = _SHARE.fullmatch(device_id)
    if match is None:
        return device_id, ""
    replica = match["replica"] or match["vgpu"] or match["share"] or ""
    device = _device(match["device"], devices, {} if match["share"] else names)
    if not device and match["replica"] is not None:
        device = match["device"]  # That it is a replica is certain, whatever the device.
    return (device, replica) if device else (device_id, "")


def _device(name: str, devices: Container[str], names: Mapping[str, str]) -> str:
    return name if name in devices else names.get(name, "")
