"""The clients that other systems publish, pointed at the service over a real socket."""

import base64
import gc
import io
import warnings

import httpx
import numpy as np
import pytest
from PIL import Image as Pil

from mmseek._types import Content, Image, Text
from mmseek.api.server.security import KeyRing, new_key
from mmseek.errors import EncodeError
from mmseek.testing import FakeEncoder, FakeReranker

openai = pytest.importorskip("openai", reason="the official client is a development tool")
cohere = pytest.importorskip("cohere", reason="the official client is a development tool")
voyageai = pytest.importorskip("voyageai", reason="the official client is a development tool")
requestor = pytest.importorskip("voyageai.api_resources.api_requestor")

# Cohere's and Voyage's clients leave their sockets to the garbage collector, so it runs before each test's end.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")


@pytest.fixture(autouse=True)
def collect_sockets():
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        vars(requestor._thread_context).pop("session", None)
        gc.collect()


TEXTS = ["a red bike", "a blue boat", "ünï ☃"]


@pytest.fixture
def encoder():
    return FakeEncoder(dim=32, spec="fake:model@1", fail_on="poison")


@pytest.fixture
def reranker():
    return FakeReranker(lambda pair: float(len(pair.document.text)) / 10, spec="ranker", scale="unit")


@pytest.fixture
def address(serve_models, encoder, reranker):
    return serve_models(encoder=encoder, reranker=reranker, names=["text-embedding-3-small"])


def vectors(encoder, *contents):
    return encoder.encode_document([Content.of(each) if isinstance(each, str) else each for each in contents])


@pytest.fixture
def client(address):
    with openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0) as opened:
        yield opened


@pytest.mark.parametrize("encoding_format", [None, "float", "base64"])
def test_openai_embeds(client, encoder, encoding_format):
    given = {} if encoding_format is None else {"encoding_format": encoding_format}
    answer = client.embeddings.create(model="text-embedding-3-small", input=TEXTS, **given)
    rows = [each.embedding for each in answer.data]
    if encoding_format == "base64":
        rows = [np.frombuffer(base64.b64decode(row), "<f4") for row in rows]
    np.testing.assert_array_equal(np.asarray(rows, np.float32), vectors(encoder, *TEXTS))
    assert [each.index for each in answer.data] == [0, 1, 2]
    assert answer.model == "text-embedding-3-small"
    assert answer.usage.prompt_tokens == answer.usage.total_tokens > 3


def test_openai_shortens_and_takes_a_single_string(client, encoder):
    answer = client.embeddings.create(model="fake:model", input=TEXTS[0], dimensions=8)
    expected = vectors(encoder, TEXTS[0])[0, :8]
    np.testing.assert_allclose(answer.data[0].embedding, expected / np.linalg.norm(expected), rtol=1e-6)
    with pytest.raises(openai.BadRequestError, match="33 dimensions are asked for, and the model has 32"):
        client.embeddings.create(model="fake:model", input="x", dimensions=33)


def test_openai_errors_are_its_own_classes(client):
    with pytest.raises(openai.NotFoundError, match="use text-embedding-3-small"):
        client.embeddings.create(model="gpt-none", input="x")
    for tokens in ([1, 2], [[1, 2], [3]]):
        with pytest.raises(openai.BadRequestError, match="send the text itself"):
            client.embeddings.create(model="model", input=tokens)
    with pytest.raises(openai.UnprocessableEntityError, match=r"input\[1\]: the fake encoder was told to fail"):
        client.embeddings.create(model="model", input=["good", "poison"])
    with pytest.raises(openai.BadRequestError, match="input is empty"):
        client.embeddings.create(model="model", input=[])


def test_openai_lists_models(client):
    names = [model.id for model in client.models.list()]
    assert names == ["text-embedding-3-small", "fake:model@1", "fake:model", "model@1", "model", "ranker"]
    assert client.models.retrieve("fake:model").owned_by == "mmseek"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("other")


async def test_openai_async_and_extra_inputs(address, encoder, helpers):
    picture = helpers.picture("red")
    items = [
        {
            "content": [
                {"type": "text", "text": "x"},
                {"type": "image_url", "image_url": {"url": uri(helpers, picture)}},
            ]
        },
        {"text": "y", "image": uri(helpers, picture)},
        "z",
    ]
    async with openai.AsyncOpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0) as client:
        answer = await client.embeddings.create(model="model", input=items)
    image = Image(data=picture)
    expected = vectors(encoder, Content((Text("x"), image)), Content((image, Text("y"))), Content((Text("z"),)))
    np.testing.assert_array_equal(np.asarray([each.embedding for each in answer.data], np.float32), expected)


def uri(helpers, picture):
    return helpers.data_uri(picture)


def test_cohere_embeds_all_types(address, encoder, helpers):
    client = cohere.ClientV2(api_key="none", base_url=address)
    kinds = ["float", "int8", "uint8", "binary", "ubinary", "base64"]
    answer = client.embed(model="model", texts=TEXTS, input_type="search_document", embedding_types=kinds)
    expected = vectors(encoder, *TEXTS)
    np.testing.assert_array_equal(np.asarray(answer.embeddings.float_, np.float32), expected)
    int8 = np.asarray(answer.embeddings.int8)
    assert int8.min() >= -127
    assert (np.abs(int8).max(axis=1) == 127).all()
    np.testing.assert_array_equal(np.asarray(answer.embeddings.uint8), int8 + 128)
    bits = np.packbits(expected > 0, axis=1).astype(int)
    np.testing.assert_array_equal(np.asarray(answer.embeddings.ubinary), bits)
    np.testing.assert_array_equal(np.asarray(answer.embeddings.binary), bits - 128)
    packed = np.frombuffer(base64.b64decode(answer.embeddings.base64[1]), "<f4")
    np.testing.assert_array_equal(packed, expected[1])
    assert answer.texts == TEXTS
    assert answer.meta.billed_units.input_tokens > 0


def test_cohere_embeds_pictures_and_inputs(address, encoder, helpers):
    client = cohere.ClientV2(api_key="none", base_url=address)
    picture = helpers.picture("blue")
    alone = client.embed(model="model", images=[uri(helpers, picture)], input_type="image", embedding_types=["float"])
    mixed = client.embed(
        model="model",
        input_type="search_query",
        inputs=[
            {
                "content": [
                    {"type": "text", "text": "x"},
                    {"type": "image_url", "image_url": {"url": uri(helpers, picture)}},
                ]
            }
        ],
        output_dimension=16,
    )
    image = Image(data=picture)
    np.testing.assert_array_equal(np.asarray(alone.embeddings.float_, np.float32), vectors(encoder, Content((image,))))
    assert np.asarray(mixed.embeddings.float_).shape == (1, 16)
    with pytest.raises(cohere.errors.NotFoundError):
        client.embed(model="embed-v4.0", texts=["x"], input_type="search_query")


def test_cohere_reranks(address):
    client = cohere.ClientV2(api_key="none", base_url=address)
    answer = client.rerank(model="ranker", query="q", documents=["aa", "a", "aaaa"], top_n=2)
    assert [(each.index, each.relevance_score) for each in answer.results] == [(2, 0.4), (0, 0.2)]


@pytest.fixture
def voyage(address):
    return voyageai.Client(api_key="none", base_url=f"{address}/v1", max_retries=0)


def test_voyage_embeds(voyage, encoder):
    answer = voyage.embed(TEXTS, model="model", input_type="document")
    np.testing.assert_array_equal(np.asarray(answer.embeddings, np.float32), vectors(encoder, *TEXTS))
    assert answer.total_tokens > 0
    int8 = voyage.embed(TEXTS, model="model", output_dtype="int8", output_dimension=16)
    assert np.asarray(int8.embeddings).shape == (3, 16)
    assert np.abs(np.asarray(int8.embeddings)).max() == 127


def test_voyage_embeds_interleaved_inputs(voyage, encoder):
    picture = Pil.new("RGB", (20, 10), "green")
    answer = voyage.multimodal_embed([["x", picture, "y"], ["z"]], model="model", input_type="query")
    packed = io.BytesIO()
    picture.save(packed, "WEBP", lossless=True)
    expected = vectors(encoder, Content((Text("x"), Image(data=packed.getvalue()), Text("y"))), "z")
    np.testing.assert_array_equal(np.asarray(answer.embeddings, np.float32), expected)
    assert answer.image_pixels == 200
    assert answer.text_tokens == 1


def test_voyage_tells_errors_apart(voyage, serve_models, encoder):
    with pytest.raises(voyageai.error.InvalidRequestError, match="dimensions are asked for"):
        voyage.embed(["a"], model="model", output_dimension=10**6)
    with pytest.raises(voyageai.error.MalformedRequestError, match=r"input\[1\]"):
        voyage.embed(["a", "poison"], model="model")
    secret, key = new_key("slow", per_minute=1)
    locked = serve_models(encoder=encoder, keys=KeyRing([key]))
    with pytest.raises(voyageai.error.AuthenticationError, match="API key"):
        voyageai.Client(api_key="wrong", base_url=f"{locked}/v1", max_retries=0).embed(["a"], model="model")
    hasty = voyageai.Client(api_key=secret, base_url=f"{locked}/v1", max_retries=0)
    hasty.embed(["a"], model="model")
    with pytest.raises(voyageai.error.RateLimitError, match="try again in"):
        hasty.embed(["a"], model="model")


def test_only_the_addresses_of_voyage_say_it_twice(address):
    for path, more in (
        ("/v1/embeddings", {"detail"}),
        ("/v1/rerank", {"detail"}),
        ("/v2/embed", set()),
        ("/no", set()),
    ):
        told = httpx.post(f"{address}{path}", json={"input": []}).json()
        assert set(told) == {"error"} | more
        assert told.get("detail", told["error"]["message"]) == told["error"]["message"]


def test_voyage_reranks(voyage):
    answer = voyage.rerank("q", ["aa", "a", "aaaa"], model="ranker", top_k=2)
    assert [(each.index, each.document, each.relevance_score) for each in answer.results] == [
        (2, "aaaa", 0.4),
        (0, "aa", 0.2),
    ]


def test_a_document_that_cannot_be_scored_is_named(serve_models):
    def judge(pair):
        if "poison" in pair.document.text:
            raise EncodeError("this pair made the model fail")
        return 1.0

    client = cohere.ClientV2(api_key="none", base_url=serve_models(reranker=FakeReranker(judge)))
    with pytest.raises(cohere.errors.UnprocessableEntityError, match=r"documents\[1\]"):
        client.rerank(model="fake", query="q", documents=["a", "poison"])
    with pytest.raises(cohere.core.ApiError, match="start it with --encoder"):
        client.embed(model="fake", texts=["x"], input_type="search_query")
