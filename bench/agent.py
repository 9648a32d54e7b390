"""CPU and memory that a node's agent takes: the real agent in its own process, over the stand-in for NVML.

`python -m bench.agent [--gpus 8] [--hz 1] [--seconds 180]`. Writes build/bench/agent.json.

`wattlog produce nvml` runs as on a node: the real pynvml over tests/producers/gpu/nvml/fake_nvml.c (which opens a file
a call: a driver's calls cost differently), its spool on this disk, librdkafka's in-process broker in another process.
CPU is user and system time of the whole process as the kernel counts it, over the seconds after a warm-up; memory is
the most that it ever held (VmHWM) and what it holds at the end. What arrives at the broker is compared with the
counters.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, TopicPartition

from bench.harness import reports
from bench.harness.broker import ROOT
from bench.harness.progress import console
from contracts import codec, topics
from contracts.events import PowerBatch
from contracts.units import UJ_PER_MJ

MAX_CPU_RATIO, MAX_RSS_MB = 0.01, 80
"""Targets: of one core, and of peak memory."""
WARM_UP_S = 20.0
STAND_S = 10.0
"""The counters stay constant for this long at first, because an agent counts from their first value."""
WATTS = 300
FIRST_MJ = 1_000_000
PRODUCE = "import sys; from cli.main import main; sys.argv = ['wattlog', 'produce', 'nvml']; main()"


def compiled(folder: Path) -> Path:
    """The stand-in for the driver's library, in a folder for LD_LIBRARY_PATH. Raises SystemExit without a compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise SystemExit("bench.agent: no C compiler to build the stand-in for libnvidia-ml; install one")
    library_file = folder / "libnvidia-ml.so.1"
    source = ROOT / "tests" / "producers" / "gpu" / "nvml" / "fake_nvml.c"
    subprocess.run(
        [compiler, "-D_GNU_SOURCE", "-O2", "-shared", "-fPIC", "-o", str(library_file), str(source)], check=True
    )
    return folder


def turn(control: Path, gpus: int, counter_mj: int) -> None:
    """Set the counters that the GPUs report, atomically, because the stand-in may be reading."""
    line = "GPU-{:08d}|NVIDIA H100 80GB HBM3|{}|300000|300000|300000|80|0|ok\n"
    fresh = control.with_suffix(".new")
    fresh.write_text("".join(line.format(n, counter_mj) for n in range(gpus)))
    fresh.replace(control)


@contextmanager
def mock_broker() -> Iterator[str]:
    """A broker in a process of its own; its address."""
    command = [sys.executable, "-m", "bench.harness.mock_broker"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.kill()


def cpu_s(pid: int) -> float:
    """User and system seconds of a process so far (proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_mb(pid: int, name: str) -> float:
    """VmRSS or VmHWM of a process in MB (1,000,000 bytes)."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) * 1024 / 1e6 for line in status.splitlines() if line.startswith(f"{name}:"))


def _headers(message: Any) -> Any:
    return message.headers()


def arrived_uj(bootstrap: str) -> int:
    """Energy of all intervals on the log."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "bench", "log_level": 0})
    partitions = consumer.list_topics(topics.POWER, timeout=10).topics[topics.POWER].partitions
    consumer.assign([TopicPartition(topics.POWER, p, 0) for p in partitions])
    total = 0
    while messages := consumer.consume(1_000, timeout=2):
        batches = [codec.decode(_headers(m), m.value()).batch for m in messages]
        total += sum(int(b.energy_uj.sum()) for b in batches if isinstance(b, PowerBatch))
    consumer.close()
    return total


def measure(gpus: int, hz: float, seconds: int, folder: Path) -> dict[str, Any]:
    """One run. Raises RuntimeError where the agent ends early, AssertionError where joules are missing."""
    control, library = folder / "gpus", compiled(folder)
    counter_mj = FIRST_MJ
    turn(control, gpus, counter_mj)
    with mock_broker() as bootstrap:
        env = {k: v for k, v in os.environ.items() if not k.startswith("WATTLOG_")} | {
            "LD_LIBRARY_PATH": str(library), "FAKE_NVML": str(control), "WATTLOG_DATA": str(folder / "data"),
            "WATTLOG_KAFKA_BOOTSTRAP": bootstrap, "WATTLOG_CLUSTER": "bench", "WATTLOG_NODE": "n1",
            "WATTLOG_WORKLOAD": "chat", "WATTLOG_SAMPLE_HZ": str(hz), "MALLOC_ARENA_MAX": "2",
        }  # fmt: skip
        errors = (folder / "stderr").open("wb")
        with errors, subprocess.Popen([sys.executable, "-c", PRODUCE], cwd=ROOT, env=env, stderr=errors) as agent:
            try:
                begun = spent = 0.0
                steady = False
                started = time.monotonic()
                while time.monotonic() - started < WARM_UP_S + seconds:
                    time.sleep(1.0)
                    if time.monotonic() - started > STAND_S:
                        counter_mj += WATTS * 1_000
                        turn(control, gpus, counter_mj)
                    if agent.poll() is not None:
                        raise RuntimeError(f"the agent ended:\n{(folder / 'stderr').read_text()[-2000:]}")
                    if not steady and time.monotonic() - started >= WARM_UP_S:
                        steady, begun, spent = True, time.monotonic(), cpu_s(agent.pid)
                took_s, used_s = time.monotonic() - begun, cpu_s(agent.pid) - spent
                peak, now = memory_mb(agent.pid, "VmHWM"), memory_mb(agent.pid, "VmRSS")
                agent.send_signal(signal.SIGTERM)
                agent.wait(40)
            finally:
                agent.kill()
        arrived = arrived_uj(bootstrap)
    expected = (counter_mj - FIRST_MJ) * UJ_PER_MJ * gpus
    assert arrived == expected, f"{arrived} uJ arrived, {expected} were counted"
    return {
        "gpus": gpus, "hz": hz, "seconds": round(took_s, 1), "cpu_s": round(used_s, 3),
        "cpu_ratio": round(used_s / took_s, 5), "peak_rss_mb": round(peak, 1), "rss_mb": round(now, 1),
        "joules": arrived // 1_000_000,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpus", type=int, default=8, help="of the node; 16 at most (%(default)s)")
    parser.add_argument("--hz", type=float, default=1.0, help="readings a second (%(default)s)")
    parser.add_argument("--seconds", type=int, default=180, help="of steady state (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="20 seconds: to see whether it works")
    parser.add_argument("--out", type=Path, default=reports.BUILD, help="folder of the results (%(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-agent-") as folder:
        result = measure(options.gpus, options.hz, 20 if options.quick else options.seconds, Path(folder))
    about = reports.about(None, {"gpus": options.gpus, "hz": options.hz})
    reports.write(options.out, "agent", {"about": about, "results": [result]})
    console.print(
        f"{result['gpus']} GPUs at {result['hz']:g} Hz over {result['seconds']:.0f} s: "
        f"{result['cpu_ratio']:.2%} of a core (target < {MAX_CPU_RATIO:.0%}), "
        f"at most {result['peak_rss_mb']:.0f} MB (target < {MAX_RSS_MB})"
    )


if __name__ == "__main__":
    main()
