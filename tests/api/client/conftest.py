"""Either client, so that one test is of both."""

import asyncio

import httpx
import pytest

from mmseek.client import AsyncClient, Client, Retry

QUICK = Retry(attempts=3, first=0.001, longest=0.002)


class Awaited:
    """The asynchronous client behind the methods of the other."""

    def __init__(self, client, loop):
        self._client, self._loop = client, loop

    def __getattr__(self, name):
        method = getattr(self._client, name)
        return lambda *args, **options: self._loop.run_until_complete(method(*args, **options))

    def documents(self, *args, **options):
        async def gathered():
            return [document async for document in self._client.documents(*args, **options)]

        return iter(self._loop.run_until_complete(gathered()))

    def collection(self, name):
        return Awaited(self._client.collection(name), self._loop)


class ToApp(httpx.BaseTransport):
    """Hands the requests of a client that waits to the app."""

    def __init__(self, app):
        self._transport = httpx.ASGITransport(app=app)

    def handle_request(self, request):
        async def ask():
            content = httpx.Request(request.method, request.url, headers=request.headers, content=request.read())
            answer = await self._transport.handle_async_request(content)
            return httpx.Response(answer.status_code, headers=answer.headers, content=await answer.aread())

        return asyncio.run(ask())


@pytest.fixture(params=["sync", "async"])
def either(request):
    """Connects either client with an app, or with a function from request to answer."""
    closing = []

    def connect(app=None, handler=None, **options):
        options.setdefault("retry", QUICK)
        mock = None if handler is None else httpx.MockTransport(handler)
        if request.param == "sync":
            client = Client("http://testserver", transport=mock or ToApp(app), **options)
            closing.append(client.close)
            return client
        loop = asyncio.new_event_loop()
        client = AsyncClient("http://testserver", transport=mock or httpx.ASGITransport(app=app), **options)
        closing.append(lambda: (loop.run_until_complete(client.close()), loop.close()))
        return Awaited(client, loop)

    yield connect
    for close in closing:
        close()
