"""The description of the service: every route has an example that works, every error one shape and a known code."""

import json
from pathlib import Path

import jsonschema
import pytest
from fastapi.testclient import TestClient

from mmseek.api.server import Answering, create_app
from mmseek.api.server.description import CODES
from mmseek.api.server.description.examples import EXAMPLES
from mmseek.api.server.description.openapi import operations, plain_name
from mmseek.api.server.hosting import CollectionRoot
from mmseek.api.server.protocols.voyage_errors import PATHS
from mmseek.api.server.security.gate import OPEN
from mmseek.pipeline.chat import Chat
from mmseek.pipeline.reranking import as_stages
from mmseek.testing import FakeEncoder, FakeReranker

NO_JSON = ("image/*", "image/jpeg", "text/plain")


@pytest.fixture
def client(tmp_path, fake_chat):
    stages = as_stages([FakeReranker(lambda _: 1.0, spec="mini")], None)
    root = CollectionRoot(tmp_path / "root", [FakeEncoder(spec="mini")], stages)
    with TestClient(create_app(root=root, answering=Answering(Chat(fake_chat.url, "qwen3-vl")))) as opened:
        yield opened


@pytest.fixture
def described(client):
    return client.get("/openapi.json").json()


def resolved(described, found):
    while "$ref" in found:
        name = found["$ref"].removeprefix("#/components/").split("/")
        found = described["components"][name[0]][name[1]]
    return found


def check(described, schema, value):
    jsonschema.Draft202012Validator({**schema, "components": described["components"]}).validate(value)


def success(operation):
    return next((status, answer) for status, answer in operation["responses"].items() if status.startswith("2"))


def test_every_route_has_examples_that_fit_their_schemas(described):
    used = set()
    for method, path, operation in operations(described):
        used.add(plain_name(method, path))
        places = [(operation["requestBody"], False)] if "requestBody" in operation else []
        places.append((success(operation)[1], True))
        for place, is_answer in places:
            ((kind, content), *_) = place["content"].items()
            if kind in NO_JSON or kind == "multipart/form-data":
                continue
            values = [each["value"] for each in content.get("examples", {}).values()] or [content.get("example")]
            assert values != [None], (method, path, "has no example")
            for value in values:
                check(described, content["schema"], value)
            assert not is_answer or kind == "application/json"
    assert used == set(EXAMPLES)


def test_every_error_has_the_one_shape_and_a_known_code(described):
    shape = described["components"]["schemas"]["ErrorAnswer"]
    for method, path, operation in operations(described):
        errors = {int(status): answer for status, answer in operation["responses"].items() if status[0] in "45"}
        assert errors, (method, path)
        if path in OPEN:
            continue  # they tell a status, for machines that know no errors
        assert {401, 403, 404, 422, 429, 500, 503} <= set(errors), (method, path)
        for status, answer in errors.items():
            content = resolved(described, answer)["content"]["application/json"]
            assert resolved(described, content["schema"]) == shape
            check(described, content["schema"], content["example"])
            assert CODES[content["example"]["error"]["code"]] == status
    assert "HTTPValidationError" not in json.dumps(described)


def test_every_example_is_answered_as_it_says(client, described, helpers):
    client.post("/v1/collections", json={"name": "photos-1"})
    client.put("/v1/aliases/default", json={"collection": "photos-1"})
    shoe = {"id": "shoe-17", "text": "a red shoe", "image": helpers.data_uri(helpers.picture())}
    note = EXAMPLES["POST /v1/documents"].body["documents"][0]
    client.post("/v1/documents", json={"documents": [shoe, note]})
    names = {"{name}": "photos-2", "{alias}": "photos", "{document_id}": "shoe-17", "{number}": "0"}
    # First what makes things, at the end what takes them away.
    order = ["POST /v1/collections", "PUT /v1/aliases/{alias}", "POST /v1/jobs"]
    last = ["POST /v1/jobs/{job}/cancel", "POST /v1/jobs/{job}/resume", "DELETE /v1/jobs/{job}"]
    last += ["DELETE /v1/documents", "DELETE /v1/documents/{document_id}"]
    last += ["DELETE /v1/aliases/{alias}", "DELETE /v1/collections/{name}"]
    asked = {plain_name(method, path): operation for method, path, operation in operations(described)}
    for name in [*order, *(name for name in asked if name not in [*order, *last]), *last]:
        method, path = name.split(" ")
        path = path.replace("/v1/models/{name}", "/v1/models/mini")
        for pattern, value in names.items():
            path = path.replace(pattern, value)
        answer = client.request(method, path, **sent(name, helpers))
        if name == "POST /v1/jobs/{job}/resume":
            assert (answer.status_code, answer.json()["error"]["code"]) == (409, "job_state")
            continue
        status, told = success(asked[name])
        assert answer.status_code == int(status), (name, answer.text)
        ((kind, content), *_) = told["content"].items()
        if kind == "application/json":
            check(described, content.get("schema", {}), answer.json())
            example = EXAMPLES[name].answer
            if isinstance(example, dict):
                assert set(example) <= set(answer.json()), name
        if name == "POST /v1/jobs":
            names["{job}"] = answer.json()["id"]
            helpers.wait_until(lambda: client.get(f"/v1/jobs/{names['{job}']}").json()["state"] == "done")


def sent(name, helpers):
    body = EXAMPLES[name].body
    if name == "POST /v1/search/upload":
        return {"files": {"image": ("a.png", helpers.picture())}, "data": {"text": "red"}}
    if name == "POST /v1/documents/upload":
        return {"files": {"files": ("a.png", helpers.picture())}}
    if isinstance(body, str):
        return {"content": body.encode(), "headers": {"content-type": "application/x-ndjson"}}
    return {} if body is None else {"json": body}


def test_wrong_requests_are_answered_in_the_shape_with_known_codes(client, described):
    tried = 0
    wrong = [
        {"content": b"{", "headers": {"content-type": "application/json"}},
        {"json": {"unknown field": 1}},
        {"content": b"x", "headers": {"content-type": "multipart/form-data; boundary=b"}},
        {"params": {"limit": "x", "cursor": "x", "side": "x"}, "json": {}},
        {"headers": {"x-request-timeout": "x"}},
    ]
    for method, path, _ in operations(described):
        for more in wrong:
            answer = client.request(method, path.replace("{", "").replace("}", ""), **more)
            if answer.status_code < 400:
                continue
            assert set(answer.json()) == {"error"} | ({"detail"} if path in PATHS else set()), (method, path)
            error = answer.json()["error"]
            assert set(error) == {"code", "message"}
            assert error["message"]
            assert error["code"] in CODES, (method, path, error)
            assert answer.status_code < 500 or answer.status_code == 501, (method, path, error)
            tried += 1
    assert tried > 200


def test_the_docs_name_every_code():
    text = (Path(__file__).parents[3] / "docs" / "rest.md").read_text(encoding="utf-8")
    told = " ".join(text.split())
    for name, status in CODES.items():
        assert f"`{name}` {status}" in told, f"docs/rest.md does not name `{name}` {status}"
