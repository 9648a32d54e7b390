"""Every route of the receivers as every role, tenant and key: who is admitted, and what is on the log then.

A new route fails here until `ROUTES` says what a sender needs for it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from access.api_keys import DAY_MS, encode_keys, key_text, new_key, with_key, without_keys
from contracts.settings import Settings
from producers.runtime.receiver.routes import open_routes
from tests.producers.frame import environment
from tests.producers.runtime.receiver.listener import SECRET, SENDS, Listener, listening, token
from tests.security import test_senders as senders

USAGE, NAMED, UNNAMED = "usage", "requests of a tenant", "requests that name no tenant"
Body = Callable[[], tuple[str, bytes]]
ROUTES: dict[tuple[str, str], Mapping[str, Body]] = {
    ("POST", "/api/v1/events"): {USAGE: senders.usage, NAMED: senders.event_request},
    ("POST", "/litellm"): {NAMED: senders.litellm},
    ("POST", "/v1/logs"): {UNNAMED: senders.logs},
    ("POST", "/v1/metrics"): {UNNAMED: senders.metrics},
    ("POST", "/v1/requests"): {NAMED: senders.requests},
    ("POST", "/v1/traces"): {NAMED: senders.traces},
    ("GET", "/healthz"): {},
    ("HEAD", "/healthz"): {},
    ("GET", "/openapi.json"): {},
    ("HEAD", "/openapi.json"): {},
}
"""Bodies of tenant acme that each route takes, by what their sender needs; routes without any are public."""

REQUESTS = {NAMED, UNNAMED}
ALL = {USAGE, *REQUESTS}
TOKENS: dict[str, tuple[Mapping[str, object], set[str]]] = {
    "operator": ({"role": "operator"}, ALL),
    "gateway": ({"role": "gateway"}, ALL),
    "admin": ({"role": "admin"}, set()),
    "finance": ({"role": "finance"}, set()),
    "engineer": ({"role": "engineer"}, set()),
    "viewer": ({"role": "viewer"}, set()),
    "tenant": ({"tenant": "acme"}, {USAGE}),
    "tenant, by role": ({"tenant": "acme", "role": "tenant"}, set()),
    "tenant that calls itself operator": ({"tenant": "acme", "role": "operator"}, {USAGE}),
    "tenant that calls itself gateway": ({"tenant": "acme", "role": "gateway"}, {USAGE}),
    "tenant's gateway": ({"tenant": "acme", "scope": SENDS}, ALL),
    "gateway of two tenants": ({"tenants": ["acme", "globex"], "scope": SENDS}, {USAGE, NAMED}),
    "gateway of another tenant": ({"tenant": "globex", "scope": SENDS}, {UNNAMED}),
    "sender of usage": ({"tenant": "acme", "scope": "send:usage"}, {USAGE}),
    "sender of usage without a tenant": ({"scope": "send:usage"}, set()),
    "sender of requests": ({"scope": "send:requests"}, REQUESTS),
    "reader": ({"scope": "read:fleet read:finance admin"}, set()),
    "tenant without a tenant": ({"role": "tenant"}, set()),
    "nobody in particular": ({}, set()),
}
"""Claims, and what their bearer may send."""

KEYS: dict[str, tuple[list[str], list[str] | None, set[str]]] = {
    "viewer": (["read:fleet"], None, set()),
    "finance": (["read:finance"], None, set()),
    "lead": (["read:tenant"], ["acme"], set()),
    "gateway": (["send:usage", "send:requests"], None, ALL),
    "usage": (["send:usage"], ["acme"], {USAGE}),
    "usage of another": (["send:usage"], ["globex"], set()),
    "calls": (["send:requests"], ["acme"], REQUESTS),
}
"""Scopes and tenants of keys, and what their bearer may send."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("receivers")


@pytest.fixture(scope="module")
def keys(folder: Path) -> dict[str, str]:
    """Texts of the keys, which the listener knows, and of one that is revoked and one that is expired."""
    now_ms, stored, texts = round(time.time() * 1000), [], {}
    for number, name in enumerate((*KEYS, "revoked", "expired")):
        scopes, tenants = KEYS[name][:2] if name in KEYS else (["send:usage", "send:requests"], None)
        secret, age_ms = number.to_bytes(32), 9 * DAY_MS if name == "expired" else 0
        stored = with_key(stored, new_key(name.replace(" ", "-"), scopes, tenants, 1, now_ms - age_ms, secret))
        texts[name] = key_text(secret)
    (folder / "keys.json").write_bytes(encode_keys(without_keys(stored, "revoked", now_ms)[0]))
    (folder / "keys.json").chmod(0o600)
    return texts


@pytest.fixture(scope="module")
def walked(folder: Path, keys: dict[str, str]) -> Iterator[Listener]:
    """One listener for all senders, so that what one sent meets the next."""
    settings = Settings(cluster="east", data=folder, keys_file=folder / "keys.json")
    with pytest.MonkeyPatch.context() as patch:
        (folder / "wattlog.toml").write_text(senders.CONFIG)
        patch.setenv("WATTLOG_CONFIG", str(folder / "wattlog.toml"))
        routes = {route.path: route for route in open_routes(environment(settings))}
        events = routes.pop("/api/v1/events")
        with listening(
            folder, key=SECRET, settings=settings, intakes=list(routes.values()), events_route=events, door=senders.DOOR
        ) as listener:
            yield listener


def check(walked: Listener, credential: str | None, may: set[str], refusals: tuple[int, ...] = (403, 422)) -> None:
    """Assert that a sender is admitted to these needs only, and that nothing else of it is on the log."""
    headers = {} if credential is None else {"authorization": credential}
    for (_, path), bodies in ROUTES.items():
        for need, body in bodies.items():
            kind = "application/cloudevents+json" if path == "/api/v1/events" else "application/json"
            before = len(walked.broker.stored)
            answer = walked.client.post(path, content=body()[1], headers={"content-type": kind} | headers)
            count = len(walked.broker.stored) - before
            if need in may:
                assert (answer.status_code // 100, count) == (2, 1), (path, need, answer.text)
            else:
                assert (answer.status_code in refusals, count) == (True, 0), (path, need, answer.text)


def test_every_route_has_its_needs_here(walked: Listener) -> None:
    app: Any = walked.client.app
    assert {(method, route.path) for route in app.routes for method in route.methods} == set(ROUTES)


@pytest.mark.parametrize(("method", "path"), [route for route, bodies in ROUTES.items() if not bodies])
def test_a_public_route_needs_nothing_and_lists_no_sender(method: str, path: str, walked: Listener) -> None:
    answer = walked.client.request(method, path)
    assert answer.status_code == 200
    assert "acme" not in answer.text


@pytest.mark.parametrize("name", TOKENS)
def test_a_token_sends_what_its_scopes_and_tenants_admit(name: str, walked: Listener) -> None:
    claims, may = TOKENS[name]
    check(walked, token(sub=name, iss="idp", **claims), may)


@pytest.mark.parametrize("name", KEYS)
def test_a_key_sends_what_its_scopes_and_tenants_admit(name: str, walked: Listener, keys: dict[str, str]) -> None:
    check(walked, f"Bearer {keys[name]}", KEYS[name][2])


@pytest.mark.parametrize(
    "credential",
    [
        None,
        "Bearer ",
        "Bearer x",
        "Basic YWNtZTphY21l",
        token(role="gateway").removeprefix("Bearer "),
        token(key="another secret of at least 32 bytes!", role="gateway"),
        token(role="gateway", exp=1),
        token(key="", algorithm="none", role="gateway"),
    ],
)
def test_a_sender_without_a_valid_token_sends_nothing(credential: str | None, walked: Listener) -> None:
    check(walked, credential, set(), (401,))


@pytest.mark.parametrize("name", ["revoked", "expired", "cut short", "made up"])
def test_a_sender_without_a_valid_key_sends_nothing(name: str, walked: Listener, keys: dict[str, str]) -> None:
    texts = keys | {"cut short": keys["gateway"][:-1], "made up": key_text(b"\7" * 32)}
    check(walked, f"Bearer {texts[name]}", set(), (401,))
