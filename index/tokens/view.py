"""The tokens of a collection as searches see them."""

from __future__ import annotations

from mmseek.index.ledger import Snapshot, State
from mmseek.index.tokens.files import TokenFiles
from mmseek.index.tokens.ledger import living_tokens, used_tokens
from mmseek.index.tokens.maxsim import TokenIndex
from mmseek.index.view import LedgerView


class TokenView(LedgerView[TokenIndex]):
    """The places of living documents' tokens and their open files; arguments as of `LedgerView`."""

    def _built(self, snapshot: Snapshot, state: State, key: object) -> TokenIndex:
        del state, key
        index = TokenIndex(TokenFiles(self._segments), self._segments.dim)
        self._add(index, snapshot, 0)
        return index

    def _update(self, index: TokenIndex, snapshot: Snapshot, seen: State) -> None:
        index.remove(snapshot.died(seen.generation))
        self._add(index, snapshot, seen.next_row - 1)

    def _add(self, index: TokenIndex, snapshot: Snapshot, after: int) -> None:
        index.files.hold(used_tokens(snapshot.sql))
        for places in living_tokens(snapshot.sql, after):
            index.add(places)
