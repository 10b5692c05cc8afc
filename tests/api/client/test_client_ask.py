"""Both clients ask the service itself: whole answers, events, and what goes wrong in between."""

import asyncio

import httpx
import pytest

from mmseek import Content, Document
from mmseek.api.server import Answering, create_app
from mmseek.client import (
    AnswerText,
    AskAnswer,
    AskedSources,
    AsyncClient,
    BadAnswer,
    Client,
    Retry,
    Unreachable,
)
from mmseek.errors import EndpointError, InputError
from mmseek.pipeline.chat import Chat

QUICK = Retry(attempts=3, first=0.001, longest=0.002)


@pytest.fixture
def address(serve_models, retriever, fake_chat):
    """A service on a port, whose endpoint is the fake one."""
    page = {"page": 3, "region": [1, 2, 3, 4]}
    retriever.add([Document("r.pdf#3", Content.of("The bike is red."), page, "r.pdf")])
    return serve_models(retriever, answering=Answering(Chat(fake_chat.url, "m", tries=1)))


@pytest.fixture(params=["sync", "async"])
def both(request):
    """Asks by either client: the answer, and the events of a stream."""

    async def asynchronously(call, url, options, question, how):
        async with AsyncClient(url, retry=QUICK, **options) as client:
            if call == "ask":
                return await client.ask(question, **how)
            return [event async for event in client.ask_stream(question, **how)]

    def ask(call, url, question="bike", options=None, **how):
        options = options or {}
        if request.param == "async":
            return asyncio.run(asynchronously(call, url, options, question, how))
        with Client(url, retry=QUICK, **options) as client:
            return client.ask(question, **how) if call == "ask" else list(client.ask_stream(question, **how))

    ask.kind = request.param
    return ask


def mocked(both, handler):
    return {"transport": httpx.MockTransport(handler)}


def test_an_answer_whole_and_as_it_comes(both, address, helpers):
    answer = both("ask", address, mode="lexical", k=1, threshold=-5.0)
    assert isinstance(answer, AskAnswer)
    (cited,) = answer.cited
    assert (answer.text, answer.found, answer.invented) == ("It is red [1].", True, ())
    assert (cited.document, cited.page, cited.region) == ("r.pdf", 3, (1.0, 2.0, 3.0, 4.0))

    first, *pieces, last = both("ask_stream", address, mode="lexical", image=helpers.picture("red"))
    assert isinstance(first, AskedSources)
    assert first.sources == answer.sources
    assert "".join(piece.text for piece in pieces if isinstance(piece, AnswerText)) == answer.text
    assert isinstance(last, AskAnswer)
    assert last.cited == answer.cited


def test_failures_are_the_servers_own(both, address, fake_chat):
    fake_chat.answers = [401]
    with pytest.raises(EndpointError, match="chat endpoint"):
        both("ask", address, mode="lexical")
    with pytest.raises(EndpointError, match="chat endpoint"):
        both("ask_stream", address, mode="lexical")
    assert len(fake_chat.bodies) == 2, "what the server tried several times is not sent again"
    with pytest.raises(InputError, match="k is 2000"):
        both("ask_stream", address, k=2000)
    with pytest.raises(InputError, match="neither text nor image"):
        both("ask", address, question=None)
    with pytest.raises(TypeError, match="no option 'llm_url'"):
        both("ask", address, llm_url="http://evil")


def test_a_server_without_an_endpoint_says_so(both, serve_models, retriever):
    with pytest.raises(Exception, match="--llm-url"):
        both("ask_stream", serve_models(retriever))
    assert create_app(retriever).state.answering is None


@pytest.mark.parametrize(
    "body",
    [
        'event: sources\ndata: {"sources": [], "searched": "", "below_threshold": 0}\n\n',
        "event: answer\ndata: []\n\n",
        "event: text\ndata: {\n\n",
        "<html></html>",
        "",
    ],
)
def test_a_stream_that_ends_early_or_is_none(both, body):
    options = mocked(both, lambda _: httpx.Response(200, text=body))
    with pytest.raises(BadAnswer, match="broke off"):
        both("ask_stream", "http://testserver", options=options)


def test_a_busy_server_is_asked_again(both):
    statuses = [503, 429]

    def busy(_):
        if statuses:
            return httpx.Response(statuses.pop(), headers={"retry-after": "0"})
        raise httpx.ConnectError("gone")

    with pytest.raises(Unreachable):
        both("ask_stream", "http://testserver", options=mocked(both, busy))
    assert statuses == []
