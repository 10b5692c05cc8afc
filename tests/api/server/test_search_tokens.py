"""A server over a collection with a vector for each token."""

from fastapi.testclient import TestClient

from mmseek import Content, Document
from mmseek.api.server import ServerLimits, create_app
from mmseek.pipeline import Retriever
from mmseek.testing import FakeTokenEncoder


def test_it_is_searched_and_written_like_any_other(tmp_path):
    with Retriever.open(tmp_path / "many", FakeTokenEncoder(), mode="create") as retriever:
        retriever.add([Document("bike", Content.of("a red bike")), Document("boat", Content.of("a blue boat"))])
        with TestClient(create_app(retriever, limits=ServerLimits())) as client:
            answer = client.post("/v1/documents", json={"documents": [{"id": "car", "text": "one green car"}]})
            assert answer.json()["indexed"] == 1
            for text, wanted in (("blue boat", "boat"), ("green car", "car"), ("red bike", "bike")):
                hits = client.post("/v1/search", json={"text": text, "k": 1}).json()["hits"]
                assert [hit["id"] for hit in hits] == [wanted]
                assert 1.9 < hits[0]["score"] < 2.1
            refused = client.post("/v1/embeddings", json={"input": "a red bike"})
            assert refused.status_code >= 400
            assert "no encoder" in refused.text
            assert client.get("/ready").status_code in {200, 404}
