"""The loss against plain formulas, chunks against whole batches, two processes against one."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, distributed, multiprocessing, nn
from torch.nn import functional as F  # noqa: N812

from mmseek.training.gathering import average_gradients
from mmseek.training.gradcache import backward_in_chunks
from mmseek.training.loss import Contrastive, Layout
from mmseek.training.settings import LossConfig

N, K, DIM = 4, 2, 8


def layout(n: int = N, k: int = K, keys: list[int] | None = None, start: int = 0) -> Layout:
    numbers = torch.tensor(keys) if keys is not None else torch.arange(2 * n + n * k) + start
    return Layout(
        n,
        k,
        torch.ones(n, k, dtype=torch.bool),
        numbers,
        numbers[n : 2 * n].unsqueeze(1),
        torch.full((n, 1 + k), math.nan),
    )


def unit(rows: int, seed: int = 0) -> Tensor:
    return F.normalize(torch.randn(rows, DIM, generator=torch.Generator().manual_seed(seed)), dim=1)


def plain(vectors: Tensor, temperature: float, out: Tensor | None = None, own_only: bool = False) -> Tensor:
    """InfoNCE, a query at a time."""
    queries, documents = vectors[:N], vectors[N:]
    losses = []
    for row in range(N):
        scores = queries[row] @ documents.T / temperature
        kept = torch.ones(len(documents), dtype=torch.bool)
        if own_only:
            kept[N:] = False
            kept[N + row * K : N + (row + 1) * K] = True
        if out is not None:
            kept &= ~out[row]
        kept[row] = True
        losses.append(torch.logsumexp(scores[kept], 0) - scores[row])
    return torch.stack(losses).mean()


def test_infonce() -> None:
    vectors = unit(N * (2 + K))
    for own_only in (False, True):
        config = LossConfig(temperature=0.1, others_negatives=not own_only)
        torch.testing.assert_close(Contrastive(config)(vectors, layout()), plain(vectors, 0.1, own_only=own_only))


def test_absent_negatives_and_duplicates_are_no_negatives() -> None:
    vectors = unit(N * (2 + K))
    given = layout(keys=[0, 1, 2, 3, 10, 11, 10, 13, 20, 21, 22, 11, 24, 25, 26, 27])
    given.present[1, 1] = False
    out = torch.zeros(N, N + N * K, dtype=torch.bool)
    out[0, 2] = out[2, 0] = True  # equal positives
    out[1, N + 3] = True  # a negative that equals a positive
    out[:, N + 3] = True  # and which is absent besides
    torch.testing.assert_close(Contrastive(LossConfig(temperature=0.1))(vectors, given), plain(vectors, 0.1, out))
    off = LossConfig(temperature=0.1, mask_duplicates=False)
    assert not torch.allclose(Contrastive(off)(vectors, given), plain(vectors, 0.1, out))


def test_what_scores_far_above_the_positive_is_no_negative() -> None:
    vectors = unit(N * (2 + K))
    scores = vectors[:N] @ vectors[N:].T
    out = scores > scores.diagonal().unsqueeze(1) + 0.1
    assert out.any()
    config = LossConfig(temperature=0.1, false_negative_margin=0.1)
    torch.testing.assert_close(Contrastive(config)(vectors, layout()), plain(vectors, 0.1, out))


def test_symmetric_matryoshka_and_distillation() -> None:
    vectors = unit(N * (2 + K))
    back = F.cross_entropy(vectors[N : 2 * N] @ vectors[:N].T / 0.1, torch.arange(N))
    found = Contrastive(LossConfig(temperature=0.1, symmetric=True))(vectors, layout())
    torch.testing.assert_close(found, (plain(vectors, 0.1) + back) / 2)

    cut = F.normalize(vectors[:, :4], dim=1)
    config = LossConfig(temperature=0.1, matryoshka=(4,), matryoshka_weights=(1.0, 3.0))
    torch.testing.assert_close(Contrastive(config)(vectors, layout()), (plain(vectors, 0.1) + 3 * plain(cut, 0.1)) / 4)

    given = layout()
    given.teacher[1] = torch.tensor([3.0, 1.0, 0.0])
    given.teacher[2, :2] = torch.tensor([1.0, 2.0])  # one negative was absent
    own = torch.cat([vectors[N : 2 * N].unsqueeze(1), vectors[2 * N :].view(N, K, DIM)], dim=1)
    scores = torch.einsum("nd,nkd->nk", vectors[:N], own) / 0.1
    first = -(torch.tensor([3.0, 1.0, 0.0]).softmax(0) * scores[1].log_softmax(0)).sum()
    second = -(torch.tensor([1.0, 2.0]).softmax(0) * scores[2, :2].log_softmax(0)).sum()
    leaf = vectors.clone().requires_grad_()
    loss = Contrastive(LossConfig(temperature=0.1, distill=0.25))(leaf, given)
    torch.testing.assert_close(loss, 0.75 * plain(vectors, 0.1) + 0.25 * (first + second) / 2)
    loss.backward()
    assert leaf.grad is not None
    assert leaf.grad.isfinite().all()


def test_the_temperature_learns_only_where_it_shall() -> None:
    for learns in (True, False):
        loss = Contrastive(LossConfig(temperature=0.07, learn_temperature=learns))
        assert [p.requires_grad for p in loss.parameters()] == [learns]
        assert float(loss.logit_scale.detach().exp()) == pytest.approx(1 / 0.07)


class Tower(nn.Module):
    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.inner = nn.Sequential(nn.Linear(5, 16), nn.Tanh(), nn.Dropout(dropout), nn.Linear(16, DIM)).double()

    def forward(self, rows: list[Tensor]) -> Tensor:
        return F.normalize(self.inner(torch.stack(rows)), dim=1)


def gradients(tower: nn.Module) -> list[Tensor]:
    return [p.grad.clone() for p in tower.parameters() if p.grad is not None]


@pytest.mark.parametrize("chunks", [[list(range(16))[i::3] for i in range(3)], [[n] for n in reversed(range(16))]])
def test_chunks_give_the_gradients_of_the_whole(chunks: list[list[int]]) -> None:
    items = list(torch.randn(16, 5, generator=torch.Generator().manual_seed(2)).double())
    results = []
    for cut in ([list(range(16))], chunks):
        tower = Tower()
        loss = Contrastive(LossConfig(temperature=0.1, learn_temperature=True), tower)
        value = backward_in_chunks(tower, items, cut, lambda rows, loss=loss: loss(rows, layout()))
        results.append((value, gradients(loss)))
    torch.testing.assert_close(results[0][0], results[1][0])
    for one, other in zip(results[0][1], results[1][1], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-9)


def test_the_second_pass_drops_what_the_first_dropped() -> None:
    tower, items = Tower(dropout=0.5), list(torch.randn(4, 5, generator=torch.Generator().manual_seed(2)).double())
    seen: list[Tensor] = []

    def encode(rows: list[Tensor]) -> Tensor:
        found = tower(rows)
        seen.append(found.detach())
        return found

    backward_in_chunks(encode, items, [[0, 1], [2, 3]], lambda rows: rows.sum())
    torch.testing.assert_close(seen[:2], seen[2:], rtol=0, atol=0)
    assert not torch.equal(seen[0], tower(items[:2]))


def _process(rank: int, meeting: str, out: str) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    torch.set_num_threads(1)
    half = N // 2
    mine = slice(rank * half, (rank + 1) * half)
    hard = range(2 * N + rank * half * K, 2 * N + (rank + 1) * half * K)
    places = [*range(N)[mine], *range(N, 2 * N)[mine], *hard]
    for symmetric in (False, True):
        tower, loss = _share(symmetric)
        items, given = _batch()
        part = Layout(half, K, given.present[mine], given.keys[places], given.known[mine], given.teacher[mine])
        chunks = [[0, 1, 2], [3, 4, 5, 6, 7]]
        value = backward_in_chunks(tower, [items[p] for p in places], chunks, partial(loss, layout=part))
        average_gradients(list(loss.parameters()))
        found = {f"{number}": each for number, each in enumerate(gradients(loss))}
        save_file({"loss": value.reshape(1), **found}, f"{out}-{symmetric}-{rank}")
    distributed.destroy_process_group()


def _share(symmetric: bool) -> tuple[Tower, Contrastive]:
    tower = Tower()
    return tower, Contrastive(LossConfig(temperature=0.1, learn_temperature=True, symmetric=symmetric), tower)


def _batch() -> tuple[list[Tensor], Layout]:
    items = list(torch.randn(2 * N + N * K, 5, generator=torch.Generator().manual_seed(3)).double())
    given = layout(keys=[0, 1, 2, 3, 10, 11, 10, 13, 20, 21, 22, 11, 24, 25, 26, 27])
    given.present[3, 0] = False
    return items, given


def test_two_processes_give_the_gradients_of_one(tmp_path: Path) -> None:
    multiprocessing.spawn(_process, args=(str(tmp_path / "meet"), str(tmp_path / "out")), nprocs=2)
    for symmetric in (False, True):
        tower, loss = _share(symmetric)
        items, given = _batch()
        whole = backward_in_chunks(tower, items, [list(range(len(items)))], partial(loss, layout=given))
        found = [load_file(tmp_path / f"out-{symmetric}-{rank}") for rank in range(2)]
        torch.testing.assert_close((found[0]["loss"] + found[1]["loss"])[0] / 2, whole)
        for number, wanted in enumerate(gradients(loss)):
            one, other = found[0][f"{number}"], found[1][f"{number}"]
            torch.testing.assert_close(one, wanted.to(one.dtype), rtol=1e-5, atol=1e-7)
            torch.testing.assert_close(one, other, rtol=0, atol=0)
