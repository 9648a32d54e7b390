"""Pods that serve, by selector or Service, through the API server's watch: a real HTTP server with pods that change."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from contracts.errors import BadInput, Unavailable
from producers.bindings.kubernetes import pod_watch
from producers.bindings.kubernetes.api_server import ApiClient
from producers.bindings.kubernetes.pod_watch import PodWatch
from tests.producers.bindings.kubernetes.stand_ins import TOKEN, FakeWatchedApi, serving_pod, watched_api
from tests.support.waiting import wait_until

Watch = Callable[..., PodWatch]


@pytest.fixture
def api() -> Iterator[FakeWatchedApi]:
    with watched_api() as fake:
        yield fake


@pytest.fixture
def watch(api: FakeWatchedApi, tmp_path: Path) -> Iterator[Watch]:
    """Build a watch that runs until the test ends."""
    (tmp_path / "token").write_text(TOKEN)
    with ExitStack() as stack:

        def build(**options: object) -> PodWatch:
            client = ApiClient(api.url, tmp_path / "token", tmp_path / "ca")
            chosen = {"selector": "app=vllm"} | options
            return stack.enter_context(PodWatch(client, "llm", pause_s=0.001, **chosen))  # type: ignore[arg-type]

        yield build


def places(watch: PodWatch) -> list[str]:
    return [pod.place for pod in watch.view().pods]


def test_pods_are_listed_and_then_followed(api: FakeWatchedApi, watch: Watch) -> None:
    api.put(serving_pod("a"))
    pods = watch()
    assert places(pods) == ["llm/a"]
    api.put(serving_pod("b", "10.0.0.2"))
    wait_until(lambda: places(pods) == ["llm/a", "llm/b"])
    api.delete("a")
    wait_until(lambda: places(pods) == ["llm/b"])
    api.put(serving_pod("b", "10.0.0.7"))
    wait_until(lambda: [pod.status.pod_ip for pod in pods.view().pods] == ["10.0.0.7"])
    assert api.queries[0]["labelSelector"] == ["app=vllm"]


@pytest.mark.parametrize("part", [1, 2, 5])
def test_a_list_in_parts_is_read_to_its_end(api: FakeWatchedApi, watch: Watch, part: int) -> None:
    api.part = part
    for name in "abcde":
        api.put(serving_pod(name))
    pods = watch()
    assert places(pods) == [f"llm/{name}" for name in "abcde"]
    api.delete("c")
    wait_until(lambda: "llm/c" not in places(pods))


def test_an_empty_list_that_is_null_is_no_failure(api: FakeWatchedApi, watch: Watch) -> None:
    api.is_null = True
    pods = watch()
    assert places(pods) == []
    api.put(serving_pod("a"))
    wait_until(lambda: places(pods) == ["llm/a"])


def test_a_bookmark_changes_no_pod_and_the_watch_goes_on_behind_it(api: FakeWatchedApi, watch: Watch) -> None:
    api.put(serving_pod("a"))
    pods = watch()
    assert places(pods) == ["llm/a"]
    api.bookmark()
    wait_until(lambda: api.queries[-1].get("resourceVersion") == ["2"])
    assert (places(pods), pods.view().refused) == (["llm/a"], [])


def test_a_pod_beyond_the_bound_is_named(api: FakeWatchedApi, watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pod_watch, "MAX_PODS", 1)
    api.put(serving_pod("a"))
    pods = watch()
    assert places(pods) == ["llm/a"]
    api.put(serving_pod("b"))
    refused = list[str]()
    wait_until(lambda: bool(refused.extend(pods.view().refused) or refused))
    assert "llm/b: is more than the 1 pods that one entry may select" in refused[0]


def test_pods_are_listed_again_when_the_version_is_too_old(api: FakeWatchedApi, watch: Watch) -> None:
    api.put(serving_pod("a"))
    pods = watch()
    assert places(pods) == ["llm/a"]
    api.compacted = 10**9
    api.put(serving_pod("b"))
    wait_until(lambda: places(pods) == ["llm/a", "llm/b"])


def test_the_last_answer_stands_while_the_api_server_is_away(api: FakeWatchedApi, watch: Watch) -> None:
    api.put(serving_pod("a"))
    now_s = [0.0]
    pods = watch(keep_s=60.0, monotonic_s=lambda: now_s[0])
    assert places(pods) == ["llm/a"]
    api.fails = True
    seen = len(api.queries)
    wait_until(lambda: len(api.queries) > seen + 3)
    assert places(pods) == ["llm/a"]
    now_s[0] = 61.0
    with pytest.raises(Unavailable, match=r"has not listed the pods for 61 s: .* answers 503"):
        pods.view()
    api.fails = False
    wait_until(lambda: api.queries[-1].get("watch") == ["1"])
    assert places(pods) == ["llm/a"]


def test_an_api_server_that_never_answered_is_named(api: FakeWatchedApi, watch: Watch) -> None:
    api.fails = True
    with pytest.raises(Unavailable, match=r"has not listed the pods since the start: .*right to list and watch pods"):
        watch().view()


def test_the_pods_of_a_service_are_those_that_it_selects(api: FakeWatchedApi, watch: Watch) -> None:
    api.service = {"tier": "prod", "app": "vllm"}
    api.put(serving_pod("a"))
    pods = watch(selector="", service="vllm", node="n1")
    assert places(pods) == ["llm/a"]
    query = next(q for q in api.queries if "labelSelector" in q)
    assert (query["labelSelector"], query["fieldSelector"]) == (["app=vllm,tier=prod"], ["spec.nodeName=n1"])


def test_a_service_that_selects_nothing_is_refused(watch: Watch) -> None:
    with pytest.raises(Unavailable, match="The Service vllm selects no pods"):
        watch(selector="", service="vllm").view()


def test_pods_without_an_address_or_past_their_end_are_left_out_and_malformed_ones_named(
    api: FakeWatchedApi, watch: Watch
) -> None:
    api.put(serving_pod("a"))
    api.put(serving_pod("pending", "", phase="Pending"))
    api.put(serving_pod("ended", phase="Succeeded"))
    bad = serving_pod("bad")
    bad["status"]["podIP"] = 7
    api.put(bad)
    view = watch().view()
    assert [pod.place for pod in view.pods] == ["llm/a"]
    [text] = view.refused
    assert "pod 3 of the list" in text
    assert "secret" not in text


def test_a_pod_names_its_ports_and_when_its_container_started(api: FakeWatchedApi, watch: Watch) -> None:
    api.put(serving_pod("a", ports={"http": 8000, "metrics": 9400}))
    [pod] = watch().view().pods
    assert (pod.port("metrics"), pod.port(77)) == (9400, 77)
    with pytest.raises(BadInput, match="llm/a declares no such port: there are http, metrics"):
        pod.port("prom")
    assert pod.started_ms(9400) == pod.started_ms(1) == 1_767_225_605_000
    assert pod.created_ms == 1_767_225_600_000
