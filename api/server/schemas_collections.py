"""Bodies about collections and aliases."""

from __future__ import annotations

from pydantic import Field

from mmseek.api.server.hosting.names import NAME_PATTERN
from mmseek.api.server.schemas import Answer, Body, CollectionAnswer

_NAME = "1 to 64 of A-Z, a-z, 0-9, '.', '_' and '-', with a letter or a digit at both ends"


class NewCollectionBody(Body):
    """A collection to be made."""

    name: str = Field(pattern=NAME_PATTERN, max_length=64, description=_NAME)
    encoder: str | None = Field(None, description="the spec of one that the server runs; the usual one if not given")


class NamedCollectionAnswer(CollectionAnswer):
    """What a collection holds, and what it is called."""

    name: str
    aliases: list[str]


class CollectionsAnswer(Answer):
    """All collections, each alias with what it stands for, and the encoders for new ones, the usual one first."""

    collections: list[str]
    aliases: dict[str, str]
    encoders: list[str]


class AliasBody(Body):
    """What an alias is to stand for."""

    collection: str = Field(description="the name of a collection")


class AliasesAnswer(Answer):
    """Each alias with the collection that it stands for."""

    aliases: dict[str, str]


class AliasAnswer(Answer):
    """What an alias stands for now, and what it stood for before."""

    alias: str
    collection: str
    before: str | None


class DeletedAliasAnswer(Answer):
    """The alias that is gone."""

    deleted: str


class DeletedCollectionAnswer(Answer):
    """The collection that is gone."""

    deleted: str


class CompactedAnswer(Answer):
    """How many vectors of replaced and deleted documents were dropped, and the bytes on disk before and after."""

    dropped: int
    bytes_before: int
    bytes: int
    took_ms: float
