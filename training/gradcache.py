"""GradCache (Gao et al. 2021, arXiv:2101.06983): the gradients of a large batch in the memory of a small chunk.

Vectors are computed chunk by chunk without a graph, the loss gives each vector's gradient, and a second pass over the
chunks takes these on to the weights. The second pass draws the same random numbers as the first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own convention

__all__ = ["backward_in_chunks"]

T = TypeVar("T")


def backward_in_chunks(
    encode: Callable[[Sequence[T]], Tensor],
    items: Sequence[T],
    chunks: Sequence[Sequence[int]],
    objective: Callable[[Tensor], Tensor],
) -> Tensor:
    """Add the gradients of `objective(encode(items))` to the weights and return the loss.

    Args:
        encode: items -> vectors (n, dim), rows that do not depend on their neighbours; or (n, tokens, dim), filled up
            with zeros to the longest.
        items: the whole batch.
        chunks: places in `items`, each in one chunk. A single chunk is computed once, plainly.
        objective: vectors (n, dim), in the order of `items` -> the loss.
    """
    order = torch.tensor([place for chunk in chunks for place in chunk])
    back = torch.empty_like(order)
    back[order] = torch.arange(len(order))
    if len(chunks) == 1:
        vectors = encode([items[place] for place in chunks[0]])
        loss = objective(vectors[back.to(vectors.device)])
        if loss.requires_grad:
            loss.backward()  # type: ignore[no-untyped-call]  # torch's own
        return loss.detach()

    states, parts = [], []
    for chunk in chunks:
        states.append(_random_state())
        with torch.no_grad():
            parts.append(encode([items[place] for place in chunk]))
    whole = torch.cat(_aligned(parts))
    vectors = whole[back.to(whole.device)].detach().requires_grad_()
    loss = objective(vectors)
    loss.backward()  # type: ignore[no-untyped-call]
    if vectors.grad is None:
        raise RuntimeError("the loss does not depend on the vectors")
    for chunk, state in zip(chunks, states, strict=True):
        with _drawing_from(state):
            again = encode([items[place] for place in chunk])
        if not again.requires_grad:
            continue  # a chunk of what is frozen
        wanted = vectors.grad[torch.tensor(chunk, device=vectors.device)]
        if again.ndim == 3:
            wanted = wanted[:, : again.shape[1]]
        (again * wanted).sum().backward()  # type: ignore[no-untyped-call]
    return loss.detach()


def _aligned(parts: list[Tensor]) -> list[Tensor]:
    """Parts of as many tokens each."""
    if parts[0].ndim < 3:
        return parts
    longest = max(part.shape[1] for part in parts)
    return [F.pad(part, (0, 0, 0, longest - part.shape[1])) for part in parts]


def _random_state() -> tuple[Tensor, Tensor | None]:
    """Of the CPU and of the accelerator in use."""
    return torch.get_rng_state(), torch.cuda.get_rng_state() if torch.cuda.is_available() else None


@contextmanager
def _drawing_from(state: tuple[Tensor, Tensor | None]) -> Iterator[None]:
    """Draw the numbers again that followed this state; afterwards the generators are where they were."""
    devices = [torch.cuda.current_device()] if state[1] is not None else []
    with torch.random.fork_rng(devices=devices):
        torch.set_rng_state(state[0])
        if state[1] is not None:
            torch.cuda.set_rng_state(state[1])
        yield
