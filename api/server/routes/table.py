"""Routes that stand at several addresses: below `/v1` for the default collection, and below each one's name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from fastapi import APIRouter

F = TypeVar("F", bound=Callable[..., Any])


class RouteTable:
    """Declared as the routes of an `APIRouter` are, and made into one for each address.

    One router that is included twice would do, but its routes then name themselves without their prefix, by which
    metrics and logs tell them apart.

    Args:
        prefix: of all of them, after the address of their collection.
        options: as of `APIRouter`.
    """

    def __init__(self, prefix: str = "", **options: Any) -> None:
        self._prefix = prefix
        self._options = options
        self._routes: list[tuple[str, str, Callable[..., Any], dict[str, Any]]] = []

    def get(self, path: str, **options: Any) -> Callable[[F], F]:
        """As of `APIRouter`, like the others here."""
        return self._add("GET", path, options)

    def post(self, path: str, **options: Any) -> Callable[[F], F]:
        return self._add("POST", path, options)

    def put(self, path: str, **options: Any) -> Callable[[F], F]:
        return self._add("PUT", path, options)

    def delete(self, path: str, **options: Any) -> Callable[[F], F]:
        return self._add("DELETE", path, options)

    def router(self, base: str, dependencies: Sequence[Any] = ()) -> APIRouter:
        """The routes below an address."""
        made = APIRouter(prefix=base + self._prefix, dependencies=list(dependencies), **self._options)
        for method, path, endpoint, options in self._routes:
            made.add_api_route(path, endpoint, methods=[method], **options)
        return made

    def _add(self, method: str, path: str, options: dict[str, Any]) -> Callable[[F], F]:
        def add(endpoint: F) -> F:
            self._routes.append((method, path, endpoint, options))
            return endpoint

        return add
