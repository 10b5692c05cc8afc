"""Train the heads of the `mini` reranker on frozen features of `mini`.

python -m mmseek.training.mini.reranker --data ../shared/data --out rerank/mini/scorer.safetensors

The words head is asked for the picture that a caption, a name or a class label is about, among all training pictures
of its set; the composed head for the picture that "the same item in orange" beside another picture means. Both minimise
the cross-entropy of a softmax over the pool (InfoNCE, arXiv:1807.03748). Only queries of the train splits are asked,
and no picture that a dev or test query is about is ever seen, not even as a wrong answer.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from mmseek._types import Document, Image
from mmseek.embed.mini.look import MiniLook
from mmseek.evaluation.dataset import Dataset, load_dataset
from mmseek.rerank.mini.lexical import inverse_frequencies
from mmseek.rerank.mini.scorer import PairScorer, ScorerConfig
from mmseek.training.mini.data import CAPTION_TASKS, Picture, caltech101, tiny_imagenet

logger = logging.getLogger("mmseek.training.mini.reranker")

SETS = ("apparel_women", "textbook_figures", "emoji", "aerial_ucm")
COMPOSED_SET = "apparel_women"
COMPOSED_TASK = "image+text->image"
TEXT_SET = "scifact"
TEMPLATES = ("{}", "a photo of a {}")


@dataclass(frozen=True, slots=True)
class Plan:
    """How long and how strongly each head is trained; `labelled` is the share of batches of class names."""

    words_steps: int = 1500
    composed_steps: int = 600
    rate: float = 1e-3
    composed_rate: float = 5e-4
    weight_decay: float = 0.3
    dropout: float = 0.6
    batch: int = 128
    labelled: float = 0.5
    labelled_batch: int = 384
    noise: float = 0.02


@dataclass(frozen=True, slots=True)
class Questions:
    """Queries of one set with the pool they rank: texts (q, 384), what is seen of pictures, and who is relevant.

    `asked` is (q, 1240), or None for queries of text alone; `pool` is (p, 1240); `relevant` is (q, p), 0 or 1, and
    `excluded` (q, p) says what is no candidate of a query.
    """

    name: str
    texts: Tensor
    asked: Tensor | None
    pool: Tensor
    relevant: Tensor
    excluded: Tensor


@dataclass(frozen=True, slots=True)
class Labelled:
    """Pictures (p, 1240) with their classes (p,), and the classes' names in each template (templates, c, 384)."""

    pictures: Tensor
    classes: Tensor
    names: Tensor


class Looker:
    """Looks at many texts and pictures in batches."""

    def __init__(self, look: MiniLook) -> None:
        self._look = look

    def texts(self, texts: Sequence[str]) -> Tensor:
        """Vectors (n, 384)."""
        pieces = [self._look.pieces(text) for text in texts]
        order = sorted(range(len(pieces)), key=lambda place: len(pieces[place]))
        found = np.empty((len(pieces), 384), dtype=np.float32)
        for start in range(0, len(order), 32):
            places = order[start : start + 32]
            found[places] = self._look.texts([pieces[place] for place in places])
        return torch.from_numpy(found)

    def pictures(self, images: Sequence[Image]) -> Tensor:
        """What is seen of pictures, (n, 1240)."""
        rows = [
            self._look.pictures([self._look.pixels(image) for image in images[start : start + 32]])
            for start in range(0, len(images), 32)
        ]
        return torch.from_numpy(np.concatenate(rows))

    def pieces(self, text: str) -> list[int]:
        """Word pieces without the marks at the ends."""
        return self._look.pieces(text)[1:-1]


def closed_documents(folder: Path) -> set[str]:
    """Documents that a dev or test query is about: none of them is used."""
    closed: set[str] = set()
    for split in ("dev", "test"):
        if (folder / "qrels" / f"{split}.tsv").is_file():
            closed |= {document for row in load_dataset(folder, split).qrels.values() for document in row}
    return closed


def read_documents(data: Dataset) -> list[Document]:
    """The corpus; a line that cannot be read is an error here."""
    documents = []
    for document in data.corpus():
        if not isinstance(document, Document):
            raise document
        documents.append(document)
    return documents


def read_questions(folder: Path, tasks: frozenset[str], looker: Looker) -> Questions:
    """The train split's queries of some tasks, with the open documents as their pool."""
    data = load_dataset(folder, "train")
    closed = closed_documents(folder)
    documents = [each for each in read_documents(data) if each.id not in closed]
    place = {document.id: row for row, document in enumerate(documents)}
    queries = [
        query for query in data.queries if query.task in tasks and any(each in place for each in data.qrels[query.id])
    ]
    relevant = torch.zeros(len(queries), len(documents))
    excluded = torch.zeros(len(queries), len(documents), dtype=torch.bool)
    for row, query in enumerate(queries):
        relevant[row, [place[each] for each in data.qrels[query.id] if each in place]] = 1
        excluded[row, [place[each] for each in query.exclude if each in place]] = True
    asked = [query.content.images[0] for query in queries if query.content.images]
    logger.info("%s", json.dumps({"set": folder.name, "queries": len(queries), "pool": len(documents)}))
    return Questions(
        folder.name,
        looker.texts([query.content.text for query in queries]),
        looker.pictures(asked) if asked else None,
        looker.pictures([document.content.images[0] for document in documents]),
        relevant,
        excluded,
    )


def read_labelled(pictures: Sequence[Picture], looker: Looker) -> Labelled:
    """Labelled photos; those without a label are left out."""
    shown = [picture for picture in pictures if picture.label]
    first = [picture.label.split(",")[0].strip().lower().replace("_", " ") for picture in shown]
    names = sorted(set(first))
    vectors = torch.stack([looker.texts([template.format(name) for name in names]) for template in TEMPLATES])
    logger.info("%s", json.dumps({"labelled": len(shown), "classes": len(names)}))
    classes = torch.tensor([names.index(name) for name in first])
    return Labelled(looker.pictures([Image(data=picture.data) for picture in shown]), classes, vectors)


def softmax_loss(scores: Tensor, relevant: Tensor) -> Tensor:
    """Cross-entropy with the relevant ones sharing the mass; both (q, p)."""
    target = relevant / relevant.sum(dim=1, keepdim=True)
    return -(target * F.log_softmax(scores, dim=1)).sum(dim=1).mean()


def optimise(module: nn.Module, steps: int, rate: float, plan: Plan, loss: Callable[[Tensor], Tensor]) -> None:
    """AdamW under a one-cycle rate; `loss` is given the inverse temperature, which is learned too."""
    temperature = nn.Parameter(torch.tensor(2.5))
    optimiser = torch.optim.AdamW([*module.parameters(), temperature], rate, weight_decay=plan.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps)
    module.train()
    for step in range(steps):
        value = loss(temperature.exp())
        optimiser.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
        if step % 100 == 99:
            logger.info("%s", json.dumps({"step": step + 1, "loss": round(float(value.detach()), 3)}))
    module.eval()


def train_words(
    scorer: PairScorer, sets: Sequence[Questions], labelled: Sequence[Labelled], plan: Plan, seed: int
) -> None:
    """Captions, names and class labels against pictures."""
    generator = np.random.default_rng(seed)
    share = np.array([len(each.texts) ** 0.5 for each in sets])
    shift = plan.noise

    def noisy(texts: Tensor) -> Tensor:
        return texts + torch.randn_like(texts) * shift

    def loss(scale: Tensor) -> Tensor:
        if labelled and generator.random() < plan.labelled:
            group = labelled[int(generator.integers(len(labelled)))]
            size = min(plan.labelled_batch, len(group.pictures))
            rows = torch.from_numpy(generator.choice(len(group.pictures), size, replace=False))
            classes = group.classes[rows].unique()  # type: ignore[no-untyped-call]
            texts = group.names[generator.integers(len(group.names))][classes]
            pool, relevant = group.pictures[rows], (group.classes[rows][None] == classes[:, None]).float()
            return softmax_loss(scale * scorer.words.queries(noisy(texts)) @ scorer.words.pictures(pool).T, relevant)
        chosen = sets[int(generator.choice(len(sets), p=share / share.sum()))]
        rows = _rows(chosen, plan.batch, generator)
        scores = scale * scorer.words.queries(noisy(chosen.texts[rows])) @ scorer.words.pictures(chosen.pool).T
        return softmax_loss(scores.masked_fill(chosen.excluded[rows], -1e4), chosen.relevant[rows])

    optimise(scorer.words, plan.words_steps, plan.rate, plan, loss)


def train_composed(scorer: PairScorer, asked: Questions, plan: Plan, seed: int) -> None:
    """A picture and text against pictures."""
    generator = np.random.default_rng(seed)
    if asked.asked is None:
        raise ValueError(f"{asked.name} has no queries of picture and text")
    pictures = asked.asked

    def loss(scale: Tensor) -> Tensor:
        rows = _rows(asked, plan.batch, generator)
        wanted = scorer.composed.queries(asked.texts[rows], pictures[rows])
        scores = scale * wanted @ scorer.composed.pictures(asked.pool).T
        return softmax_loss(scores.masked_fill(asked.excluded[rows], -1e4), asked.relevant[rows])

    optimise(scorer.composed, plan.composed_steps, plan.composed_rate, plan, loss)


def _rows(questions: Questions, batch: int, generator: np.random.Generator) -> Tensor:
    count = len(questions.texts)
    return torch.from_numpy(generator.choice(count, min(batch, count), replace=False))


def scaled(questions: Questions, scorer: PairScorer) -> Questions:
    """The same questions with what is seen of pictures brought to one scale."""
    asked = None if questions.asked is None else scorer.scaled(questions.asked)
    return Questions(
        questions.name, questions.texts, asked, scorer.scaled(questions.pool), questions.relevant, questions.excluded
    )


def piece_weights(data: Path, looker: Looker, vocabulary: int) -> Tensor:
    """From abstracts and from what textbooks say around their figures; documents of dev and test are left out."""
    pieces: list[list[int]] = []
    for name in (TEXT_SET, "textbook_figures"):
        closed = closed_documents(data / name)
        for document in read_documents(load_dataset(data / name, "train")):
            if document.id not in closed:
                about = [str(document.metadata.get(key, "")) for key in ("alt", "caption", "context")]
                pieces.append(looker.pieces(" ".join([document.content.text, *about])))
    return torch.from_numpy(inverse_frequencies(pieces, vocabulary))


def main(argv: list[str] | None = None) -> None:
    """Look at everything, train both heads, write the weights."""
    parser = argparse.ArgumentParser(prog="python -m mmseek.training.mini.reranker")
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--out", type=Path, required=True, help="weights file to write")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.manual_seed(args.seed)
    plan = Plan()
    looker = Looker(MiniLook.load())
    scorer = PairScorer(ScorerConfig(dropout=plan.dropout))
    sets = [read_questions(args.data / name, CAPTION_TASKS, looker) for name in SETS]
    composed = read_questions(args.data / COMPOSED_SET, frozenset({COMPOSED_TASK}), looker)
    photos = (caltech101(args.data / "caltech101"), tiny_imagenet(args.data / "tiny_imagenet"))
    labelled = [read_labelled(pictures, looker) for pictures in photos]
    pools = torch.cat([each.pool for each in sets])
    scorer.mean, scorer.deviation = pools.mean(dim=0), pools.std(dim=0) + 1e-3
    scorer.piece_weights = piece_weights(args.data, looker, scorer.config.vocabulary)
    labelled = [Labelled(scorer.scaled(each.pictures), each.classes, each.names) for each in labelled]
    train_words(scorer, [scaled(each, scorer) for each in sets], labelled, plan, args.seed)
    train_composed(scorer, scaled(composed, scorer), plan, args.seed)
    scorer.save(args.out, {"seed": str(args.seed), "sets": ", ".join((*SETS, TEXT_SET, "caltech101", "tiny_imagenet"))})
    logger.info("%s", json.dumps({"written": str(args.out), "bytes": args.out.stat().st_size}))


if __name__ == "__main__":
    main()
