"""Run the boards' adapter on the real pynvml in a process of its own, whose library path has the stand-in.

Prints JSON: boards, and processes by device.
"""

from __future__ import annotations

import json

from producers.gpu.nvml.boards import NvmlBoards


def main() -> None:
    nvml = NvmlBoards()
    boards = [[b.uuid, b.slices, [list(i) for i in b.instances], dict(b.names)] for b in nvml.boards()]
    print(json.dumps({"boards": boards, "running": nvml.running()}))
    nvml.close()


if __name__ == "__main__":
    main()
