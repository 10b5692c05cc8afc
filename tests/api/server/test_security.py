"""Keys, scopes, rates, sizes, headers and what is never told."""

import json

import pytest
import structlog
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from mmseek.api.server import ServerLimits, create_app
from mmseek.api.server.security import ApiKey, KeyRing, new_key, read_keys, write_keys
from mmseek.api.server.security.gate import OPEN, needed_scope
from mmseek.api.server.security.rates import RateLimiter
from mmseek.errors import ConfigError
from mmseek.testing import FakeReranker

MADE = {scope: new_key(scope, scope=scope) for scope in ("read", "write", "admin")}


@pytest.fixture
def app(retriever):
    keys = KeyRing(key for _, key in MADE.values())
    return create_app(retriever, reranker=FakeReranker(lambda _: 1.0), keys=keys)


@pytest.fixture
def client(app):
    with TestClient(app) as opened:
        yield opened


def bearer(scope):
    return {"authorization": f"Bearer {MADE[scope][0]}"}


def code(answer):
    return answer.status_code, answer.json()["error"]["code"]


def test_every_route_but_health_asks_for_a_key(app, client):
    asked = 0
    for path, methods in client.get("/openapi.json", headers=bearer("read")).json()["paths"].items():
        for method in methods:
            answer = client.request(method, path.replace("{", "").replace("}", ""))
            assert (answer.status_code != 401) == (path in OPEN), path
            asked += 1
    assert asked > 20
    for path in ("/openapi.json", "/nowhere", "/healthy", "/health/", "/health/../v1/collection", "/%2e/health"):
        answer = client.get(path)
        assert answer.request.url.path not in OPEN
        assert code(answer) == (401, "unauthorized")
    assert client.get("/health", headers={"authorization": "Bearer wrong"}).status_code == 200


def test_the_search_page_loads_so_that_it_can_ask_for_a_key(client):
    page = client.get("/")
    assert page.status_code == 200
    assert "script-src 'self'" in page.headers["content-security-policy"]
    assert client.get("/web/app.js").status_code == 200
    for method, path in (
        ("POST", "/web/app.js"),
        ("GET", "/web"),
        ("GET", "/v1/thumbnails/a/0"),
        ("POST", "/v1/search"),
    ):
        assert client.request(method, path).status_code == 401, path


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer wrong"},
        {"authorization": "Bearer "},
        {"authorization": MADE["read"][0]},
        {"authorization": f"Basic {MADE['read'][0]}"},
        {"authorization": f"Bearer {MADE['read'][1].sha256}"},
        {"x-api-key": ""},
        {"x-api-key": "\xff"},
    ],
)
def test_what_is_no_key(client, headers):
    answer = client.get("/v1/collection", headers={name: value.encode("latin-1") for name, value in headers.items()})
    assert code(answer) == (401, "unauthorized")
    assert answer.headers["www-authenticate"] == "Bearer"


def test_ways_to_send_a_key(client):
    secret = MADE["read"][0]
    for headers in ({"authorization": f"bearer {secret}"}, {"x-api-key": secret}, {"api-key": secret}):
        assert client.get("/v1/collection", headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "body", "scope"),
    [
        ("POST", "/v1/search", {"text": "a"}, "read"),
        ("POST", "/v1/embeddings", {"input": "a"}, "read"),
        ("POST", "/rerank", {"query": "a", "documents": ["b"]}, "read"),
        ("POST", "/score", {"text_1": "a", "text_2": "b"}, "read"),
        ("POST", "/v1/documents", {"documents": [{"id": "a", "text": "b"}]}, "write"),
        ("DELETE", "/v1/documents", {"ids": ["a"]}, "write"),
        ("GET", "/metrics", None, "admin"),
    ],
)
def test_scopes_reach_as_far_as_they_say(client, method, path, body, scope):
    order = ("read", "write", "admin")
    for held in order:
        answer = client.request(method, path, json=body, headers=bearer(held))
        assert (answer.status_code == 200) == (order.index(held) >= order.index(scope)), answer.text
        if answer.status_code != 200:
            assert code(answer) == (403, "forbidden")


def test_what_is_not_known_to_be_harmless_needs_write():
    for method in ("POST", "PUT", "PATCH", "DELETE", "FROB"):
        for path in (
            "/anything",
            "/v1/anything",
            "/v1/searching",
            "/v1/search/more",
            "/v1/embeddings/",
            "/embeddings\n",
        ):
            assert needed_scope(method, path) == "write", (method, path)


def test_what_a_read_key_may_post_is_named_one_by_one(app):
    posts = {path for path, methods in app.openapi()["paths"].items() if "post" in methods}
    posts |= {"/embeddings", "/multimodalembeddings"}  # not described
    asks = {path for path in posts if needed_scope("POST", path) == "read"}
    assert asks == {
        *("/v1/search", "/v1/search/upload", "/v1/recommend", "/v1/ask", "/v1/documents/get"),
        *("/embed", "/embeddings", "/v1/embeddings", "/v2/embed", "/multimodalembeddings", "/v1/multimodalembeddings"),
        *("/rerank", "/v1/rerank", "/v2/rerank", "/score", "/v1/score"),
    }
    assert {path for path in posts if needed_scope("POST", path) == "admin"} == {"/v1/compact"}


def test_writes_and_refusals_are_audited_without_secrets(client):
    with structlog.testing.capture_logs() as logs:
        client.post("/v1/documents", json={"documents": [{"id": "a", "text": "b"}]}, headers=bearer("write"))
        client.post("/v1/documents", json={}, headers=bearer("read"))
        client.get("/v1/collection", headers={"authorization": "Bearer wrong"})
        client.get("/v1/collection", headers=bearer("read"))
    audit = [(entry["event"], entry["key"], entry["scope"]) for entry in logs if "scope" in entry]
    assert audit == [("allowed", "write", "write"), ("refused", "read", "write"), ("refused", None, "read")]
    assert not any(secret in str(logs) for secret, _ in MADE.values())
    assert "wrong" not in str(logs)
    assert [entry.get("key") for entry in logs if entry["event"] == "request"] == ["write", "read", None, "read"]


def test_a_key_has_its_own_rate_and_size(retriever):
    slow, slow_key = new_key("slow", per_minute=3)
    small, small_key = new_key("small", max_body_bytes=100)
    with TestClient(create_app(retriever, keys=KeyRing([slow_key, small_key]))) as client:
        headers = {"x-api-key": slow}
        assert [client.get("/v1/collection", headers=headers).status_code for _ in range(4)] == [200, 200, 200, 429]
        answer = client.get("/v1/collection", headers=headers)
        assert code(answer) == (429, "rate_limited")
        assert 1 <= int(answer.headers["retry-after"]) <= 20
        headers = {"x-api-key": small}
        assert client.post("/v1/search", json={"text": "a"}, headers=headers).status_code == 200
        assert code(client.post("/v1/search", json={"text": "a" * 200}, headers=headers)) == (413, "body_too_large")


@given(st.lists(st.floats(0, 30), min_size=1, max_size=60), st.integers(1, 20))
def test_no_minute_has_more_than_twice_its_rate(gaps, per_minute):
    now = 0.0
    passed = []
    limiter = RateLimiter(lambda: now)
    for gap in gaps:
        now += gap
        wait = limiter.take("k", per_minute)
        assert wait >= 0
        if not wait:
            passed.append(now)
    for start in passed:
        assert sum(start <= when < start + 60 for when in passed) <= 2 * per_minute


def test_keys_are_kept_as_hashes(tmp_path):
    secret, key = new_key("a", scope="write", per_minute=5)
    path = tmp_path / "keys"
    write_keys(path, [key])
    assert secret not in path.read_text()
    assert read_keys(path) == [key]
    assert KeyRing(read_keys(path)).find(secret) == key
    assert KeyRing(read_keys(path)).find(secret + "x") is None


@pytest.mark.parametrize(
    "change",
    [
        {"sha256": "abc"},
        {"sha256": 3},
        {"scope": "root"},
        {"name": ""},
        {"per_minute": -1},
        {"per_minute": True},
        {"other": 1},
    ],
)
def test_a_file_with_anything_else_is_refused(tmp_path, change):
    path = tmp_path / "keys"
    sound = {"name": "a", "sha256": "0" * 64}
    path.write_text(json.dumps(sound | change))
    with pytest.raises(ConfigError, match=r"keys:1: this is no key"):
        read_keys(path)
    path.write_text(f"{json.dumps(sound)}\n{json.dumps(sound)}\n")
    with pytest.raises(ConfigError, match="two keys named 'a'"):
        read_keys(path)


def test_headers_keep_answers_harmless(client, helpers):
    for answer in (client.get("/health"), client.get("/nowhere"), client.get("/v1/collection", headers=bearer("read"))):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")
        assert "access-control-allow-origin" not in answer.headers
        assert "server" not in answer.headers


def test_other_pages_may_ask_only_if_told(retriever):
    origin = {"origin": "https://page.example"}
    preflight = origin | {"access-control-request-method": "POST"}
    with TestClient(create_app(retriever)) as closed:
        assert "access-control-allow-origin" not in closed.get("/health", headers=origin).headers
        assert closed.options("/v1/search", headers=preflight).status_code == 405
    with TestClient(create_app(retriever, cors_origins=["https://page.example"])) as opened:
        assert opened.get("/health", headers=origin).headers["access-control-allow-origin"] == "https://page.example"
        assert opened.options("/v1/search", headers=preflight).status_code == 200
        assert (
            "access-control-allow-origin" not in opened.get("/health", headers={"origin": "https://x.example"}).headers
        )


def test_metrics_tell_of_queues_and_not_of_content(client):
    client.post("/v1/search", json={"text": "a very secret question"}, headers=bearer("read"))
    client.get("/v1/documents/a-secret-id", headers=bearer("read"))
    text = client.get("/metrics", headers=bearer("admin")).text
    assert "secret" not in text
    for expected in (
        'mmseek_requests_total{method="POST",route="/v1/search",status="200"} 1.0',
        'mmseek_batch_items_count{model="encoder"} 1.0',
        'mmseek_queue_calls{model="encoder"} 0.0',
        'mmseek_cache_total{outcome="miss"} 1.0',
        "mmseek_ready 1.0",
    ):
        assert expected in text


def test_limits_hold_for_models_too(retriever):
    with TestClient(create_app(retriever, limits=ServerLimits(max_body_bytes=1000))) as client:
        assert code(client.post("/v1/embeddings", json={"input": "x" * 2000})) == (413, "body_too_large")


def test_a_key_shows_no_secret():
    secret, key = new_key("a")
    assert secret not in repr(key)
    assert isinstance(key, ApiKey)
