"""Runs real client libraries against the real receiver, and prints the calls that counted beside those that must.

    python -m tests.clients [--folder build/clients] [--only NAME ...] [--record]

Each library has a virtual environment of its own, with pinned versions from the package registry that is configured. It
calls a stand-in for an OpenAI server (`openai_server.py`); its spans go through a recorder to `wattlog produce http`,
which writes to librdkafka's in-process broker. `--record` stores the spans for the tests, without texts. A client whose
emitter, packages or tools are not there is skipped with a word. Ends with status 1 if a client is counted wrong.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import httpx
from confluent_kafka import Consumer, Producer, TopicPartition

from contracts import codec, topics
from contracts.events import TokenBatch, UsageBatch
from tests.clients.recorder import Recorder
from tests.clients.table import CLIENTS, ENVIRONMENTS, NODE, Client
from tests.support.event_log import in_process_broker
from tests.support.paths import ROOT

SHARED = Path(os.environ.get("WATTLOG_SHARED_DATA", ROOT.parent / "shared" / "data")).parent / "cases" / "tokens"
BODIES = ROOT / "tests" / "producers" / "gateways" / "otel" / "bodies"
INSTALL_S, EMIT_S, START_S = 900, 180, 60


class SkippedClient(Exception):
    """Reason why a client cannot be run here."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.clients")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "clients", help="where environments are made")
    parser.add_argument("--only", nargs="*", choices=sorted(CLIENTS), default=sorted(CLIENTS), metavar="NAME")
    parser.add_argument("--record", action="store_true", help=f"store the spans in {BODIES.relative_to(ROOT)}")
    options = parser.parse_args()
    folder = options.folder.resolve()
    wrong = 0
    print(f"{'client':<24} {'calls':<36} {'expected':<36} {'other usage':<32} refused")
    for name in options.only:
        client = CLIENTS[name]
        try:
            calls, usage, recorder = run(name, client, folder)
        except SkippedClient as reason:
            print(f"{name:<24} skipped: {reason}")
            continue
        is_right = (sorted(client.calls), client.usage, client.refused) == (calls, usage, recorder.refused)
        wrong += not is_right
        other = ", ".join(f"{meter} {count}" for meter, count in sorted(usage.items())) or "-"
        print(f"{name:<24} {text(calls):<36} {text(sorted(client.calls)):<36} {other:<32} {recorder.refused}"
              f"{'' if is_right else '   WRONG'}", flush=True)  # fmt: skip
        for answer in recorder.messages:
            print(f"{'':<24} answer: {answer}")
        if options.record:
            (BODIES / f"{name}.json").write_text(recorder.as_json())
    return 1 if wrong else 0


def text(calls: list[tuple[int, int, int]]) -> str:
    """Return calls in few characters."""
    return " ".join(f"{'/'.join(map(str, call))}x{count}" for call, count in sorted(Counter(calls).items())) or "none"


def run(name: str, client: Client, folder: Path) -> tuple[list[tuple[int, int, int]], dict[str, int], Recorder]:
    """Run a client. Return the calls and the rows of usage that are on the log. Raises SkippedClient."""
    command, environment = prepare(name, client, folder)
    with tempfile.TemporaryDirectory() as data, in_process_broker() as broker:
        port = free_port()
        receiver = subprocess.Popen(
            [Path(sys.executable).with_name("wattlog"), "produce", "http"], cwd=ROOT, stdout=subprocess.DEVNULL,
            stderr=(Path(data) / "log").open("wb"),
            env=os.environ | {"PYTHONPATH": str(ROOT), "WATTLOG_KAFKA_BOOTSTRAP": broker, "WATTLOG_DATA": data,
                              "WATTLOG_HTTP_PORT": str(port)},
        )  # fmt: skip
        try:
            await_listener(port, receiver)
            with Recorder(f"http://127.0.0.1:{port}/v1/traces") as recorder:
                words = [word.format(url=recorder.url, port=recorder.port) for word in command]
                emitted = subprocess.run(words, env=environment, capture_output=True, timeout=EMIT_S, cwd=data)
            if emitted.returncode:
                raise SkippedClient(f"its emitter ended with {emitted.returncode}: {last_line(emitted.stderr)}")
            calls, usage = on_the_log(broker)
        finally:
            receiver.terminate()
            receiver.wait(START_S)
    return calls, usage, recorder


def prepare(name: str, client: Client, folder: Path) -> tuple[list[str], dict[str, str]]:
    """Make the environment of a client. Return the command of its emitter and its variables. Raises SkippedClient."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "OTEL_"))}
    variables["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    if client.kind and not (SHARED / "emit.py").exists():
        raise SkippedClient("its emitter is not here: set WATTLOG_SHARED_DATA to the folder beside `cases`")
    if client.environment == "node":
        return ["node", str(node_folder(folder) / "emit.mjs"), client.kind, "{port}"], variables
    python = str(virtual_environment(client.environment, folder))
    if client.kind:
        return [python, str(SHARED / "emit.py"), client.kind, "{port}"], variables
    return [python, str(Path(__file__).with_name("emitter.py")), name, "{url}"], variables


def virtual_environment(name: str, folder: Path) -> Path:
    """Return the Python of an environment, made at its first use. Raises SkippedClient where it cannot be made."""
    python = folder / name / "bin" / "python"
    stamp = folder / name / "requirements.txt"
    requirements = "\n".join(ENVIRONMENTS[name])
    if not stamp.exists() or stamp.read_text() != requirements:
        install([sys.executable, "-m", "venv", "--clear", str(folder / name)], folder)
        install([str(python), "-m", "pip", "install", "--quiet", "--no-input", *ENVIRONMENTS[name]], folder)
        stamp.write_text(requirements)
    return python


def node_folder(folder: Path) -> Path:
    """Return a folder with Vercel's SDKs and their emitter. Raises SkippedClient where it cannot be made."""
    if shutil.which("npm") is None:
        raise SkippedClient("npm is not installed")
    node = folder / "node"
    if not (node / "package-lock.json").exists():
        node.mkdir(parents=True, exist_ok=True)
        packages = [f"{name}@{version}" for name, version in NODE.items()]
        install(["npm", "install", "--silent", "--no-audit", "--no-fund", "--legacy-peer-deps", *packages], node)
    shutil.copy(SHARED / "emit.mjs", node)
    return node


def install(command: list[str], folder: Path) -> None:
    """Run a command of an installation in a folder. Raises SkippedClient where it fails."""
    folder.mkdir(parents=True, exist_ok=True)
    result = subprocess.run(command, cwd=folder, capture_output=True, timeout=INSTALL_S)
    if result.returncode:
        raise SkippedClient(f"cannot be installed here: {last_line(result.stderr)}")


def last_line(output: bytes) -> str:
    return (output.decode(errors="replace").strip().splitlines() or [""])[-1][:100]


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def await_listener(port: int, receiver: subprocess.Popen[bytes]) -> None:
    """Wait until the receiver answers. Raises RuntimeError if it ends, or does not answer in time."""
    for _ in range(START_S * 10):
        if receiver.poll() is None:
            try:
                if httpx.get(f"http://127.0.0.1:{port}/healthz").status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.1)
    raise RuntimeError("the receiver does not answer: run `wattlog produce http` to see why")


def on_the_log(broker: str) -> tuple[list[tuple[int, int, int]], dict[str, int]]:
    """Return the calls on a broker as (prompt, cached, completion), and the number of rows of usage by meter."""
    calls, usage = list[tuple[int, int, int]](), Counter[str]()
    consumer = Consumer({"bootstrap.servers": broker, "group.id": "clients", "log_level": 0})
    for topic in (topics.TOKENS, topics.USAGE):
        partitions = (
            Producer({"bootstrap.servers": broker, "log_level": 0}).list_topics(topic, timeout=10).topics[topic]
        )
        consumer.assign([TopicPartition(topic, partition, 0) for partition in partitions.partitions])
        while messages := consumer.consume(100, timeout=2):
            for message in messages:
                batch = codec.decode(message.headers(), message.value()).batch
                if isinstance(batch, TokenBatch):
                    columns = (batch.prompt_tokens, batch.cached_tokens, batch.completion_tokens)
                    calls += zip(*(column.tolist() for column in columns), strict=True)
                elif isinstance(batch, UsageBatch):
                    usage.update(batch.meter)
    consumer.close()
    return sorted(calls), dict(usage)


if __name__ == "__main__":
    raise SystemExit(main())
