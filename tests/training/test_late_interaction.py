"""MaxSim and the loss on pictures' own vectors, against plain formulas; chunks and processes against the whole."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, distributed, multiprocessing, nn
from torch.nn import functional as F  # noqa: N812
from torch.nn.utils.rnn import pad_sequence

from mmseek.errors import ConfigError
from mmseek.training import late
from mmseek.training.gathering import average_gradients
from mmseek.training.gradcache import backward_in_chunks
from mmseek.training.late import maxsim, own_maxsim
from mmseek.training.loss import Contrastive, Layout
from mmseek.training.settings import LossConfig

N, K, DIM = 4, 2, 6
LENGTHS = [3, 5, 1, 4, 2, 6, 3, 3, 7, 1, 2, 4, 5, 3, 1, 2]
# Which of the items have a picture: the second row's positive has none, nor the fourth row's query.
PICTURES = [True, True, True, False, True, False, True, True, True, False, True, True, True, True, True, False]


def layout() -> Layout:
    keys = torch.arange(N * (2 + K))
    present = torch.ones(N, K, dtype=torch.bool)
    present[3, 0] = False
    return Layout(N, K, present, keys, keys[N : 2 * N].unsqueeze(1), torch.full((N, 1 + K), torch.nan))


def tokens(seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [F.normalize(torch.randn(n, DIM, generator=generator).double(), dim=1) for n in LENGTHS]


def plain_maxsim(query: Tensor, document: Tensor) -> Tensor:
    return (query @ document.T).max(dim=1).values.mean()


@pytest.mark.parametrize("block", [1, 2**26])
def test_maxsim_is_that_of_each_pair(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(late, "_BLOCK", block)
    items = tokens()
    queries, documents = (pad_sequence(part, batch_first=True).requires_grad_() for part in (items[:5], items[5:]))
    found = maxsim(queries, documents)
    wanted = torch.stack([torch.stack([plain_maxsim(q, d) for d in items[5:]]) for q in items[:5]])
    torch.testing.assert_close(found, wanted)
    assert (wanted < 0).any(), "where all of a document's tokens are unlike, zeros that fill it up must not count"

    found.square().sum().backward()
    again = [item.clone().requires_grad_() for item in items]
    whole = torch.stack([torch.stack([plain_maxsim(q, d) for d in again[5:]]) for q in again[:5]])
    whole.square().sum().backward()
    for number, each in enumerate(again):
        of, row = (queries, number) if number < 5 else (documents, number - 5)
        assert of.grad is not None
        torch.testing.assert_close(of.grad[row, : len(each)], each.grad)

    own = own_maxsim(queries, documents[:10].view(5, 2, *documents.shape[1:]))
    torch.testing.assert_close(own, torch.stack([wanted[n, 2 * n : 2 * n + 2] for n in range(5)]))


@pytest.mark.parametrize("others", [True, False])
def test_the_loss_is_infonce_of_maxsim(others: bool) -> None:
    items, given = tokens(), layout()
    vectors = pad_sequence(items, batch_first=True)
    losses = []
    for row in range(N):
        hard = [p for p in range(2 * N, len(items)) if bool(given.present[(p - 2 * N) // K, (p - 2 * N) % K])]
        places = [*range(N, 2 * N), *(p for p in hard if others or (p - 2 * N) // K == row)]
        scores = torch.stack([plain_maxsim(items[row], items[p]) for p in places]) / 0.1
        losses.append(torch.logsumexp(scores, 0) - scores[row])
    config = LossConfig(temperature=0.1, others_negatives=others)
    torch.testing.assert_close(Contrastive(config)(vectors, given), torch.stack(losses).mean(), rtol=1e-6, atol=1e-6)
    both = Contrastive(LossConfig(temperature=0.1, symmetric=True))(vectors, given)
    back = torch.stack([torch.stack([plain_maxsim(q, d) for q in items[:N]]) for d in items[N : 2 * N]]) / 0.1
    ahead = Contrastive(LossConfig(temperature=0.1))(vectors, given)
    torch.testing.assert_close(both, (ahead + F.cross_entropy(back, torch.arange(N))) / 2, rtol=1e-6, atol=1e-6)


def pictures_too(seed: int = 1) -> Tensor:
    """Vectors and, where there is a picture, the pictures' own."""
    generator = torch.Generator().manual_seed(seed)
    whole, own = (F.normalize(torch.randn(len(PICTURES), DIM, generator=generator).double(), dim=1) for _ in range(2))
    return torch.cat([whole, own * torch.tensor(PICTURES).unsqueeze(1)], dim=1)


def test_the_pictures_loss_is_infonce_of_what_has_pictures() -> None:
    vectors, given = pictures_too(), layout()
    own = vectors[:, DIM:]
    losses = []
    for row in [0, 2]:
        hard = [p for p in range(2 * N, len(own)) if bool(given.present[(p - 2 * N) // K, (p - 2 * N) % K])]
        places = [p for p in [*range(N, 2 * N), *hard] if PICTURES[p]]
        scores = torch.stack([own[row] @ own[p] for p in places]) / 0.1
        losses.append(torch.logsumexp(scores, 0) - scores[places.index(N + row)])
    whole = Contrastive(LossConfig(temperature=0.1))(vectors[:, :DIM], given)
    found = Contrastive(LossConfig(temperature=0.1, visual=0.9))(vectors, given)
    torch.testing.assert_close(found, 0.1 * whole + 0.9 * torch.stack(losses).mean(), rtol=1e-6, atol=1e-6)

    none = torch.cat([vectors[:, :DIM], torch.zeros_like(own)], dim=1).requires_grad_()
    loss = Contrastive(LossConfig(temperature=0.1, visual=0.9))(none, given)
    torch.testing.assert_close(loss, 0.1 * whole, rtol=1e-6, atol=1e-6)
    loss.backward()
    assert none.grad is not None
    assert none.grad.isfinite().all()
    with pytest.raises(ConfigError, match="visual must be from 0 to below 1"):
        LossConfig(visual=1.0)


class Tower(nn.Module):
    """A vector for each token, or, of the first token, a vector and its picture's own."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.kind = kind
        self.inner = nn.Linear(DIM, DIM if kind == "late" else 2 * DIM).double()

    def forward(self, items: list[tuple[Tensor, bool]]) -> Tensor:
        if self.kind == "late":
            return pad_sequence([F.normalize(self.inner(item), dim=1) for item, _ in items], batch_first=True)
        whole, own = self.inner(torch.stack([item[0] for item, _ in items])).chunk(2, dim=1)
        there = torch.tensor([picture for _, picture in items]).unsqueeze(1)
        return torch.cat([F.normalize(whole, dim=1), F.normalize(own, dim=1) * there], dim=1)


def _share(kind: str) -> tuple[Tower, Contrastive]:
    tower = Tower(kind)
    return tower, Contrastive(LossConfig(temperature=0.1, visual=0.9 if kind == "visual" else 0.0), tower)


def _whole(kind: str, chunks: list[list[int]]) -> tuple[Tensor, list[Tensor]]:
    tower, loss = _share(kind)
    items = list(zip(tokens(), PICTURES, strict=True))
    value = backward_in_chunks(tower, items, chunks, partial(loss, layout=layout()))
    return value, [p.grad.clone() for p in loss.parameters() if p.grad is not None]


@pytest.mark.parametrize("kind", ["late", "visual"])
@pytest.mark.parametrize("chunks", [[list(range(16))[i::3] for i in range(3)], [[n] for n in reversed(range(16))]])
def test_chunks_give_the_gradients_of_the_whole(kind: str, chunks: list[list[int]]) -> None:
    (value, wanted), (found, given) = _whole(kind, [list(range(16))]), _whole(kind, chunks)
    torch.testing.assert_close(found, value)
    for one, other in zip(given, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-9)


def _process(rank: int, meeting: str, out: str) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    torch.set_num_threads(1)
    half, given = N // 2, layout()
    mine = slice(rank * half, (rank + 1) * half)
    hard = range(2 * N + rank * half * K, 2 * N + (rank + 1) * half * K)
    places = [*range(N)[mine], *range(N, 2 * N)[mine], *hard]
    for kind in ("late", "visual"):
        tower, loss = _share(kind)
        items = list(zip(tokens(), PICTURES, strict=True))
        part = Layout(half, K, given.present[mine], given.keys[places], given.known[mine], given.teacher[mine])
        chunks = [[0, 1, 2], [3, 4, 5, 6, 7]]
        value = backward_in_chunks(tower, [items[p] for p in places], chunks, partial(loss, layout=part))
        average_gradients(list(loss.parameters()))
        found = {f"{n}": p.grad.clone() for n, p in enumerate(tower.parameters()) if p.grad is not None}
        save_file({"loss": value.reshape(1), **found}, f"{out}-{kind}-{rank}")
    distributed.destroy_process_group()


def test_two_processes_give_the_gradients_of_one(tmp_path: Path) -> None:
    """Their longest items differ in length, and so do the numbers of their pictures."""
    multiprocessing.spawn(_process, args=(str(tmp_path / "meet"), str(tmp_path / "out")), nprocs=2)
    for kind in ("late", "visual"):
        whole, wanted = _whole(kind, [list(range(16))])
        found = [load_file(tmp_path / f"out-{kind}-{rank}") for rank in range(2)]
        torch.testing.assert_close((found[0]["loss"] + found[1]["loss"])[0] / 2, whole)
        for number, each in enumerate(wanted):
            torch.testing.assert_close(found[0][f"{number}"], each, rtol=1e-5, atol=1e-7)
            torch.testing.assert_close(found[0][f"{number}"], found[1][f"{number}"], rtol=0, atol=0)
