"""Servers in pods: all replicas are read, none twice, and those that appear count from their start."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from contracts.errors import Unavailable
from contracts.events import TokenBatch, UsageBatch
from contracts.settings import Settings
from producers.api import PollResult
from producers.bindings.config import PodLabelNames
from producers.bindings.kubernetes.pod_watch import PodsView
from producers.bindings.kubernetes.serving_pod import ServingPod
from producers.servers.config import PodsAt, ServersConfig
from producers.servers.plugin import check, pod_servers
from producers.servers.pods import PodGroup, PodServers
from producers.servers.token_limits import DEFAULT_LIMIT
from tests.producers.bindings.kubernetes.stand_ins import TOKEN, FakeWatchedApi, serving_pod, watched_api
from tests.producers.frame import environment, token_counters
from tests.support.clocks import T0, clock_at
from tests.support.waiting import wait_until


def at(second: float) -> str:
    """A time after T0 in the API server's form."""
    return datetime.fromtimestamp(T0 / 1000 + second, UTC).isoformat()


class Cluster:
    """Pods with pages, and one source that reads them every ten seconds."""

    def __init__(self, executor: ThreadPoolExecutor, **options: Any) -> None:
        self.pods: list[dict[str, Any]] = []
        self.pages: dict[str, str | Exception] = {}
        self.t_s, self.checkpoint, self.is_current = -10, None, True
        self.fetched: list[str] = []
        options = {"tenant": "acme", "workload": "chat"} | options
        others = options.pop("other_urls", ())
        groups = [
            PodGroup(name, self.view, token_counters("sglang"), DEFAULT_LIMIT, "east", **options)
            for name in options.pop("groups", ["llm/app=sglang"])
        ]
        self.source = PodServers(
            groups, PodLabelNames(), "label", every_ms=10_000, fetch=self.fetch, executor=executor, other_urls=others
        )

    def view(self) -> PodsView:
        pods = [msgspec.convert(pod, ServingPod) for pod in self.pods]
        waiting = [pod for pod in pods if pod.status.phase == "Pending"]
        return PodsView([pod for pod in pods if pod not in waiting], (), self.is_current, waiting)

    def fetch(self, url: str) -> str:
        self.fetched.append(url)
        page = self.pages.get(url, Unavailable(f"{url} does not answer", "Is it running?"))
        if isinstance(page, Exception):
            raise page
        return page

    def serve(self, **tokens: int) -> None:
        """Set the prompt tokens of the pods' servers, by the last number of the address: p1=5."""
        for name, count in tokens.items():
            self.pages[f"http://10.0.0.{name[1:]}:8000/metrics"] = (
                f'sglang:prompt_tokens_total{{model_name="m"}} {count}'
            )

    def read(self) -> PollResult:
        self.t_s += 10
        result = self.source.collect(self.checkpoint, clock_at(T0 + 1000 * self.t_s))
        self.checkpoint = result.checkpoint  # type: ignore[assignment]
        return result

    def count(self) -> int:
        """Read once, and return the prompt tokens."""
        return sum(prompt_tokens(self.read()))


def prompt_tokens(result: PollResult) -> list[int]:
    batches = [message.batch for message in result.batches]
    return [int(n) for b in batches if isinstance(b, TokenBatch) for n in b.prompt_tokens]


@pytest.fixture
def cluster() -> Iterator[Callable[..., Cluster]]:
    with ThreadPoolExecutor(2) as executor:
        yield lambda **options: Cluster(executor, **options)


def pod(n: int, created: float = -86_400, **options: Any) -> dict[str, Any]:
    return serving_pod(
        f"p{n}", f"10.0.0.{n}", created=at(created), started=at(options.pop("started", created)), **options
    )


def test_all_replicas_are_read_and_one_that_appears_counts_from_its_start(cluster: Callable[..., Cluster]) -> None:
    c = cluster()
    c.pods, c.t_s = [pod(1)], -10
    c.serve(p1=1_000)
    assert c.count() == 0
    c.pods.append(pod(2, created=4))
    c.serve(p1=1_010, p2=7)
    result = c.read()
    [message] = result.batches
    assert sorted(prompt_tokens(result)) == [7, 10]
    assert (message.cluster, message.workload, message.node) == ("east", "chat", "llm/app=sglang")
    c.serve(p1=1_010, p2=9)
    assert c.count() == 2


def test_a_replica_that_takes_minutes_to_load_counts_from_its_start(cluster: Callable[..., Cluster]) -> None:
    c = cluster()
    assert c.count() == 0
    c.pods.append(pod(1, created=4, ready=False))
    for _ in range(20):
        result = c.read()
        assert (prompt_tokens(result), result.refused) == ([], [])
    c.pods = [pod(1, created=4)]
    c.serve(p1=55)
    tokens = [c.count() for _ in range(7)]
    assert (sum(tokens), len([n for n in tokens if n])) == (55, 1)


def test_a_replica_that_waited_for_a_node_counts_from_its_start(cluster: Callable[..., Cluster]) -> None:
    c = cluster()
    for n in range(20):
        c.pods = [pod(1, created=-500, phase="Pending")] if n else [pod(1, created=-500, phase="Pending"), pod(2)]
        assert c.count() == 0
    c.pods = [pod(1, created=-500, started=191)]
    c.serve(p1=12)
    assert c.count() == 12


def test_a_pod_that_was_there_before_only_begins(cluster: Callable[..., Cluster]) -> None:
    c = cluster()
    assert c.count() == 0
    c.pods.append(pod(1, created=-500))
    c.serve(p1=1_000_000)
    assert c.count() == 0


def test_a_container_that_restarts_counts_from_its_start_though_its_page_has_no_start_time(
    cluster: Callable[..., Cluster],
) -> None:
    c = cluster()
    c.pods = [pod(1)]
    c.serve(p1=1_000)
    c.read()
    c.pods = [pod(1, started=5)]
    c.serve(p1=30)
    result = c.read()
    assert prompt_tokens(result) == [30]
    [text] = result.restarts
    assert text.startswith("llm/p1 at http://10.0.0.1:8000/metrics restarted at")


def test_a_restart_that_the_api_server_reports_late_loses_nothing(cluster: Callable[..., Cluster]) -> None:
    c = cluster()
    c.pods = [pod(1)]
    c.serve(p1=1_000)
    c.read()
    c.serve(p1=30)
    assert c.count() == 0
    c.pods = [pod(1, started=5)]
    c.serve(p1=41)
    assert c.count() == 41


def test_a_pod_that_several_groups_or_an_address_select_counts_once(cluster: Callable[..., Cluster]) -> None:
    c = cluster(groups=["llm/app=sglang", "llm/tier=prod"], other_urls={"http://10.0.0.2:8000/metrics"})
    c.pods = [pod(1), pod(2)]
    c.serve(p1=10, p2=10)
    c.read()
    c.serve(p1=15, p2=15)
    assert c.count() == 5


def test_a_pod_that_does_not_answer_costs_the_others_nothing_and_is_asked_less_often(
    cluster: Callable[..., Cluster],
) -> None:
    c = cluster()
    c.pods = [pod(1), pod(2)]
    c.serve(p1=10)
    c.read()
    for n in range(1, 31):
        c.serve(p1=10 + n)
        result = c.read()
        assert prompt_tokens(result) == [1]
    requests = c.fetched.count("http://10.0.0.2:8000/metrics")
    assert 8 <= requests <= 12
    assert c.fetched.count("http://10.0.0.1:8000/metrics") == 31


def test_another_pod_with_the_address_of_one_that_ended_adds_nothing_while_the_api_server_is_away(
    cluster: Callable[..., Cluster],
) -> None:
    c = cluster()
    c.pods = [pod(1)]
    c.serve(p1=1_000)
    c.read()
    c.is_current = False
    c.serve(p1=7_000_000)
    assert [c.count() for _ in range(5)] == [0] * 5
    c.is_current, c.pods = True, []
    assert c.count() == 0


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("ends", [{"deleted": at(20)}, {}], ids=["terminating", "older"])
def test_a_pod_with_the_address_of_one_that_lingers_has_its_own_tokens(
    cluster: Callable[..., Cluster], ends: dict[str, Any], order: int
) -> None:
    fleet = cluster()
    fleet.pods = [pod(1), pod(2)]
    fleet.serve(p1=4_000_000, p2=7)
    assert fleet.count() == 0
    lingers, new = pod(1, **ends), serving_pod("p9", "10.0.0.1", created=at(1), started=at(2))
    fleet.pods = [lingers, new, pod(2)][::order]
    fleet.serve(p1=5_000_000, p2=8)
    result = fleet.read()
    assert sum(prompt_tokens(result)) == 5_000_001
    [text] = [text for text in result.refused if "have one address" in text]
    assert "only llm/p9 is read" in text
    fleet.serve(p1=5_000_009, p2=8)
    assert fleet.count() == 9


def test_a_pod_whose_container_does_not_run_is_not_read(cluster: Callable[..., Cluster]) -> None:
    fleet = cluster()
    stopped = pod(1)
    stopped["status"]["containerStatuses"][0]["state"] = {"terminated": {"exitCode": 0}}
    fleet.pods = [stopped, pod(2)]
    fleet.serve(p1=1, p2=2)
    assert fleet.read().refused == []
    assert fleet.fetched == ["http://10.0.0.2:8000/metrics"]


def test_pods_on_their_node_s_network_count_each_by_its_port(cluster: Callable[..., Cluster]) -> None:
    fleet = cluster(port="http")
    fleet.pods = [serving_pod(name, "fd00::1", created=at(-9), started=at(-9), ports={"http": port})
                  for name, port in (("a", 8000), ("b", 8001))]  # fmt: skip
    for tokens in (1, 5):
        fleet.pages = {f"http://[fd00::1]:{port}/metrics": f'sglang:prompt_tokens_total{{model_name="m"}} {tokens}'
                       for port in (8000, 8001)}  # fmt: skip
        result = fleet.read()
    assert (prompt_tokens(result), result.refused) == ([4, 4], [])


def test_workload_and_tenant_are_those_of_the_pod_s_labels(cluster: Callable[..., Cluster]) -> None:
    c = cluster(workload="", tenant="")
    labels = {"wattlog.io/workload": "code", "wattlog.io/tenant": "blue"}
    c.pods = [pod(1, labels=labels), pod(2, labels={"wattlog.io/workload": "code"})]
    c.serve(p1=1, p2=1)
    c.read()
    c.serve(p1=4, p2=4)
    result = c.read()
    [message] = result.batches
    assert isinstance(message.batch, TokenBatch)
    assert (message.workload, message.batch.tenants) == ("code", ("blue",))
    [text] = result.refused
    assert "llm/p2" in text
    assert "give it the label wattlog.io/tenant" in text


def test_tokens_of_pods_for_comparison_are_usage(cluster: Callable[..., Cluster]) -> None:
    c = cluster(count="compare")
    c.pods = [pod(1)]
    c.serve(p1=1)
    c.read()
    c.serve(p1=4)
    [message] = c.read().batches
    assert isinstance(message.batch, UsageBatch)
    assert (message.batch.meter, message.batch.quantity) == (("server_prompt_tokens",), ("3",))


def test_a_pod_that_is_missing_for_a_while_goes_on_when_it_returns(cluster: Callable[..., Cluster]) -> None:
    c = cluster()
    c.pods = [pod(1)]
    c.serve(p1=10)
    c.read()
    c.pods = []
    assert c.count() == 0
    c.pods = [pod(1)]
    c.serve(p1=25)
    assert c.count() == 15


def test_a_group_whose_pods_are_unknown_costs_the_others_nothing_and_loses_no_tokens(
    cluster: Callable[..., Cluster],
) -> None:
    c = cluster(groups=["llm/a", "llm/b"])
    group, views = c.source.groups[1], [PodsView([]), None, PodsView([msgspec.convert(pod(2, created=14), ServingPod)])]

    def view() -> PodsView:
        if (answer := views.pop(0)) is None:
            raise Unavailable("The API server has not listed the pods for 301 s", "Is it reachable from here?")
        return answer

    object.__setattr__(group, "view", view)
    c.pods = [pod(1)]
    c.serve(p1=10, p2=7)
    c.read()
    c.serve(p1=11)
    result = c.read()
    assert (prompt_tokens(result), len(result.refused)) == ([1], 1)
    assert c.count() == 7


def test_nothing_is_read_while_the_pods_are_unknown(cluster: Callable[..., Cluster]) -> None:
    c = cluster()

    def unknown() -> PodsView:
        raise Unavailable("The API server has not listed the pods", "Is it reachable from here?")

    c.view = unknown  # type: ignore[method-assign]
    object.__setattr__(c.source.groups[0], "view", unknown)
    with pytest.raises(Unavailable, match="has not listed"):
        c.read()


ACTIONS = st.lists(
    st.lists(st.tuples(st.sampled_from(["grow", "add", "remove", "restart"]), st.integers(1, 4)), max_size=5),
    max_size=12,
)
"""What happens to four pods between two readings."""


@given(ACTIONS)
@settings(deadline=None)
def test_every_token_that_a_pod_shows_counts_once_however_pods_come_and_go(steps: list[list[tuple[str, int]]]) -> None:
    with ThreadPoolExecutor(1) as executor:
        c, lives, counted, truth = Cluster(executor), dict[int, tuple[dict[str, Any], int, int]](), 0, 0
        c.read()
        for t, actions in enumerate(steps):
            for k, (action, n) in enumerate(actions):
                second = 10 * t + 3 + k
                if action == "add" and n not in lives:
                    lives[n] = (pod(n, created=second, uid=f"{n}-{second}"), 3, 0)
                elif action == "remove":
                    lives.pop(n, None)
                elif action == "restart" and n in lives:
                    old_pod = lives[n][0]
                    again = pod(n, created=-1, started=second, uid=old_pod["metadata"]["uid"])
                    lives[n] = (old_pod | {"status": again["status"]}, 2, 0)
                elif action == "grow" and n in lives:
                    lives[n] = (lives[n][0], lives[n][1] + 20_000, lives[n][2])
            c.pods = [old_pod for old_pod, _, _ in lives.values()]
            c.serve(**{f"p{n}": value for n, (_, value, _) in lives.items()})
            counted += c.count()
            truth += sum(value - seen for _, value, seen in lives.values())
            lives = {n: (old_pod, value, value) for n, (old_pod, value, _) in lives.items()}
        assert counted == truth


# As configured


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeWatchedApi]:
    (tmp_path / "token").write_text(TOKEN)
    with watched_api() as fake:
        monkeypatch.setenv("WATTLOG_BINDINGS_API", fake.url)
        monkeypatch.setenv("WATTLOG_BINDINGS_TOKEN", str(tmp_path / "token"))
        yield fake


PODS = PodsAt(namespace="llm", selector="app=vllm", server="vllm", workload="chat", tenant="acme", port="http")


def test_configured_pods_are_found_and_read(api: FakeWatchedApi, serve: Callable[..., str]) -> None:
    host, _, port = serve(lambda: (200, "vllm:prompt_tokens_total 5\n")).removesuffix("/metrics")[7:].partition(":")
    api.put(serving_pod("a", host, ports={"http": int(port)}))
    config, here = ServersConfig(pods=(PODS,)), environment(Settings(cluster="east"))
    with here.resources:
        source = pod_servers(config, here)
        assert source is not None
        assert len(source.collect(None, here.clock).batches) == 1
        api.put(serving_pod("b", "127.0.0.1", ports={"http": 9}))
        wait_until(lambda: len(source.groups[0].view().pods) == 2)
        findings = dict(check(config, here))
    assert findings["llm/app=vllm"] == "2 pods: llm/a, llm/b"
    [failed] = [str(text) for place, text in findings.items() if place.startswith("llm/b at")]
    assert "does not answer" in failed


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"selector": "", "service": ""}, "give either `selector` or `service`"),
        ({"service": "vllm"}, "give either `selector` or `service`"),
        ({"selector": "app=vllm&limit=1"}, "give a label selector"),
        ({"namespace": "a/../b"}, "namespace"),
        ({"selector": "", "service": "../x"}, "service"),
    ],
)
def test_pods_that_cannot_be_selected_are_refused(wrong: dict[str, str], named: str) -> None:
    with pytest.raises(ValidationError, match=named):
        PodsAt(**(PODS.model_dump() | wrong))
