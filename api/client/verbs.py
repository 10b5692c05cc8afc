"""From one call to a method of either client: what is sent and read is written once, in `calls`, with its docstring."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

from mmseek.api.client.calls import Call, Target

P = ParamSpec("P")
T = TypeVar("T")


def waits(make: Callable[Concatenate[Target, P], Call[T]]) -> Callable[Concatenate[Any, P], T]:
    """A method of the client that waits."""

    def ask(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return cast(T, self._do(make(self._at, *args, **kwargs)))

    return _named(ask, make)


def awaited(make: Callable[Concatenate[Target, P], Call[T]]) -> Callable[Concatenate[Any, P], Awaitable[T]]:
    """A method of the client that is awaited."""

    async def ask(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return cast(T, await self._do(make(self._at, *args, **kwargs)))

    return _named(ask, make)


F = TypeVar("F", bound=Callable[..., Any])


def _named(ask: F, make: Callable[..., Any]) -> F:
    """The name, the words and the parameters of the call, whose first one is the client's to give."""
    ask.__name__ = make.__name__
    ask.__qualname__ = make.__qualname__
    ask.__doc__ = make.__doc__
    told = inspect.signature(make)
    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    answer = told.return_annotation
    if isinstance(answer, str) and answer.startswith("Call["):
        answer = answer[len("Call[") : -1]
    ask.__signature__ = told.replace(  # type: ignore[attr-defined]
        parameters=[own, *list(told.parameters.values())[1:]], return_annotation=answer
    )
    return ask
