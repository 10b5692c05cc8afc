"""Fewer visual tokens before the language model, without training.

Between the vision tower (with its projection) and the language model, of each picture:

- `merge`, as AIM does before the language model (Zhong et al. 2024, arXiv:2412.03248, "token merging": iterative, by
  the similarity of embeddings), which is the bipartite matching of Bolya et al. 2022 (arXiv:2210.09461): the tokens are
  dealt into two sets in turn, each of the first set finds the most similar one of the second, the most similar pairs
  become their mean, and this is repeated until few enough are left. AIM's second part, pruning inside the language
  model's layers, is not done.
- `rank`, as FoPru's rank strategy (Jiang et al. 2024, arXiv:2411.14164): the tokens to which the vision tower attends
  most are kept, over the whole picture. The significance of a token is the attention that its patches get in the layer
  whose states are used (of the layers with full attention the last), averaged over heads and over who attends.
- `rows`, as FoPru's row strategy: whole rows of the picture, those of the highest mean significance; of the last row
  that has room the most significant tokens.

What is kept stays in its order and keeps the positions that it had (FoPru, "reordered to maintain their original
positional relationships"). A merged token has the position of the one that the others were merged into. Ties, and what
rounding makes of them, are decided by the place: scores are compared after rounding to four decimals.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Reduced", "Row", "Watched", "merged", "pruned", "read", "received"]

_DECIMALS = 4


@dataclass(frozen=True, slots=True)
class Reduced:
    """What is left of a picture.

    Args:
        states: (kept, dim).
        deeper: what the language model adds in its first layers, each (kept, dim).
        places: (kept,), among the picture's tokens, ascending.
    """

    states: torch.Tensor
    deeper: tuple[torch.Tensor, ...]
    places: torch.Tensor


@dataclass(frozen=True, slots=True)
class Row:
    """A sequence and what is left of its pictures.

    Args:
        tokens: (n,), with all of the pictures' tokens.
        positions: (..., n), rotary.
        is_picture: (n,).
        pictures: in their order.
        sizes: how many tokens each picture had.
    """

    tokens: NDArray[np.int64]
    positions: NDArray[np.int64]
    is_picture: NDArray[np.bool_]
    pictures: Sequence[Reduced] = ()
    sizes: Sequence[int] = ()

    def kept(self) -> NDArray[np.int64]:
        """The places of the tokens that are read."""
        places = np.flatnonzero(self.is_picture)
        keep = ~self.is_picture
        start = 0
        for picture, size in zip(self.pictures, self.sizes, strict=True):
            keep[places[start : start + size][picture.places.cpu().numpy()]] = True
            start += size
        return np.flatnonzero(keep)


def merged(states: torch.Tensor, deeper: Sequence[torch.Tensor], count: int) -> Reduced:
    """Merge a picture's tokens (n, dim) until `count` are left."""
    layers = [states, *deeper]
    places = torch.arange(len(states), device=states.device)
    while len(places) > count:
        directions = torch.nn.functional.normalize(layers[0].float(), dim=1)
        given, taking = slice(0, None, 2), slice(1, None, 2)
        similar, match = torch.round(directions[given] @ directions[taking].T, decimals=_DECIMALS).max(dim=1)
        merges = min(len(places) - count, len(similar), len(places) // 2)
        order = torch.sort(similar, descending=True, stable=True).indices
        gone, into = order[:merges], match[order[:merges]]
        left, _ = torch.sort(order[merges:])
        order = torch.cat([2 * left, torch.arange(1, len(places), 2, device=places.device)]).sort().indices
        layers = [_joined(layer, given, taking, gone, into, left)[order] for layer in layers]
        places = torch.cat([places[given][left], places[taking]])[order]
    return Reduced(layers[0], tuple(layers[1:]), places)


def _joined(
    layer: torch.Tensor, given: slice, taking: slice, gone: torch.Tensor, into: torch.Tensor, left: torch.Tensor
) -> torch.Tensor:
    """Those of the first set that are left, then the second set, each the mean of itself and what came to it."""
    source, target = layer[given], layer[taking]
    # In float32 and by sums, so that the order of what comes to one token changes little.
    total = target.float().index_add(0, into, source[gone].float())
    number = torch.ones(len(target), device=layer.device).index_add(0, into, torch.ones(len(into), device=layer.device))
    return torch.cat([source[left], (total / number[:, None]).to(layer.dtype)])


def pruned(
    states: torch.Tensor, deeper: Sequence[torch.Tensor], count: int, scores: torch.Tensor, rows: torch.Tensor | None
) -> Reduced:
    """Keep the `count` most significant of a picture's tokens (n, dim).

    Args:
        states: of the tokens.
        deeper: see `Reduced`.
        count: how many.
        scores: (n,), 0 or more.
        rows: (n,), the row of each token from 0, to keep rows; None to keep tokens.
    """
    scores = torch.round(scores.double() / scores.double().mean().clamp_min(1e-12), decimals=_DECIMALS)
    order = torch.sort(scores, descending=True, stable=True).indices
    if rows is not None:
        number = int(rows.max()) + 1
        totals = torch.zeros(number, dtype=torch.float64, device=rows.device).index_add(0, rows, scores)
        means = torch.round(totals / torch.bincount(rows, minlength=number).clamp_min(1), decimals=_DECIMALS)
        rank = torch.empty(number, dtype=torch.long, device=rows.device)
        rank[torch.sort(means, descending=True, stable=True).indices] = torch.arange(number, device=rows.device)
        order = order[torch.sort(rank[rows[order]], stable=True).indices]
    places = order[:count].sort().values
    return Reduced(states[places], tuple(layer[places] for layer in deeper), places)


class Watched:
    """Remembers what goes into a module of attention while somebody looks, for each thread by itself."""

    def __init__(self, attention: Any) -> None:
        self.attention = attention
        self._mine = threading.local()
        attention.register_forward_pre_hook(self._note, with_kwargs=True)

    def _note(self, _: Any, inputs: tuple[Any, ...], named: Mapping[str, Any]) -> None:
        if getattr(self._mine, "looks", False):
            self._mine.noted = {**named, "hidden_states": inputs[0] if inputs else named["hidden_states"]}

    @contextmanager
    def look(self) -> Iterator[dict[str, Any]]:
        """What went in, by name; filled when the block ends."""
        found: dict[str, Any] = {}
        self._mine.looks = True
        try:
            yield found
            found.update(self._mine.noted)
        finally:
            self._mine.looks, self._mine.noted = False, {}


def received(queries: torch.Tensor, keys: torch.Tensor, scale: float) -> torch.Tensor:
    """The mean attention that each token gets: (heads, n, size) twice to (n,), in float32, a head at a time."""
    total = torch.zeros(keys.shape[1], device=keys.device)
    for query, key in zip(queries.float(), keys.float(), strict=True):
        total += torch.softmax(query @ key.T * scale, dim=-1).mean(dim=0)
    return total / len(keys)


def read(model: Any, rows: Sequence[Row], device: str, *, left: bool, deepstack: bool) -> list[torch.Tensor]:
    """The language model's last states of what is kept of each sequence, each (kept, dim).

    Args:
        model: of transformers, without a head, with `language_model`.
        rows: the sequences.
        device: where the model is.
        left: pad on the left.
        deepstack: hand on `Reduced.deeper`, as Qwen3-VL wants it.
    """
    kept = [row.kept() for row in rows]
    longest = max(map(len, kept))
    shape = rows[0].positions.shape[:-1]
    tokens, mask = (np.zeros((len(rows), longest), dtype=np.int64) for _ in range(2))
    visual = np.zeros((len(rows), longest), dtype=np.bool_)
    positions = np.zeros((*shape, len(rows), longest), dtype=np.int64)
    places = []
    for number, (row, keep) in enumerate(zip(rows, kept, strict=True)):
        start = longest - len(keep) if left else 0
        place = slice(start, start + len(keep))
        tokens[number, place], mask[number, place] = row.tokens[keep], 1
        visual[number, place], positions[..., number, place] = row.is_picture[keep], row.positions[..., keep]
        places.append(place)
    pictures = [picture for row in rows for picture in row.pictures]
    embeddings = model.get_input_embeddings()(torch.from_numpy(tokens).to(device))
    where = torch.from_numpy(visual).to(device)
    more: dict[str, Any] = {}
    if pictures:
        embeddings[where] = torch.cat([picture.states for picture in pictures]).to(embeddings.dtype)
        if deepstack:
            layers = zip(*(picture.deeper for picture in pictures), strict=True)
            more = {"visual_pos_masks": where, "deepstack_visual_embeds": [torch.cat(layer) for layer in layers]}
    states = model.language_model(
        inputs_embeds=embeddings,
        attention_mask=torch.from_numpy(mask).to(device),
        position_ids=torch.from_numpy(positions).to(device),
        use_cache=False,
        **more,
    ).last_hidden_state
    return [states[number, place] for number, place in enumerate(places)]
