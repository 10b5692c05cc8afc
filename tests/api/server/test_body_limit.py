"""How much of requests' bodies is held at a time."""

import asyncio

import pytest
from starlette.exceptions import HTTPException

from mmseek.api.server.body_limit import BodyLimit

SCOPE = {"type": "http", "headers": []}


class App:
    """Reads its body, then waits to be told to answer."""

    def __init__(self):
        self.read, self.answer = asyncio.Event(), asyncio.Event()

    async def __call__(self, scope, receive, send):
        while (await receive())["more_body"]:
            pass
        self.read.set()
        await self.answer.wait()


def body(*sizes):
    pieces = [{"type": "http.request", "body": b"x" * size, "more_body": True} for size in sizes]
    pieces[-1]["more_body"] = False
    left = iter(pieces)

    async def receive():
        return next(left)

    return receive


async def send(message):
    raise AssertionError(message)


async def test_bodies_that_are_not_answered_yet_are_bounded_together():
    app = App()
    limit = BodyLimit(app, max_bytes=100, max_held=150, seconds=30)
    first = asyncio.create_task(limit(SCOPE, body(60, 40), send))
    await app.read.wait()
    for _ in range(2):  # what was refused is not counted any more
        with pytest.raises(HTTPException) as refused:
            await limit(SCOPE, body(30, 30), send)
        assert (refused.value.status_code, refused.value.headers["Retry-After"]) == (429, "1")
    fits = asyncio.create_task(limit(SCOPE, body(50), send))
    app.answer.set()
    await asyncio.gather(first, fits)
    await limit(SCOPE, body(100), send)
    await limit(SCOPE, body(100), send)


async def test_a_request_alone_may_have_what_one_may_have():
    app = App()
    app.answer.set()
    await BodyLimit(app, max_bytes=100, max_held=50, seconds=30)(SCOPE, body(50, 50), send)
