"""The world of shapes is what it says."""

from __future__ import annotations

from pathlib import Path

from mmseek.evaluation import load_dataset
from mmseek.training.data.rows import TrainingRow
from mmseek.training.data.triples import read_triples
from mmseek.training.worlds import COLOURS, INSTRUCTIONS, SHAPES, World


def parts(path: Path | None) -> tuple[str, str]:
    assert path is not None
    colour, shape, _ = path.stem.split("-")
    return colour, shape


def test_only_the_instruction_says_what_is_right(tmp_path: Path) -> None:
    world = World(tmp_path, copies=2)
    triples, test = world.write()
    rows = [row for row in read_triples(triples) if isinstance(row, TrainingRow)]
    assert len(rows) == 2 * 2 * (len(COLOURS) * len(SHAPES) - len(COLOURS))
    for row in rows:
        colour, shape = parts(row.query.content.images[0].path)
        assert not world.held_out(colour, shape)
        by_colour = row.query.instruction == INSTRUCTIONS["colour"]
        for positive in row.positives:
            its_colour, its_shape = parts(positive.content.images[0].path)
            assert (its_colour == colour, its_shape == shape) == (by_colour, not by_colour)
    data = load_dataset(test)
    for query in data.queries:
        colour, shape = parts(query.content.images[0].path)
        assert world.held_out(colour, shape)
        place = 0 if query.task == "colour" else 1
        assert not query.exclude & data.qrels[query.id].keys()
        assert all(name.split("-")[place] == (colour, shape)[place] for name in data.qrels[query.id])
    # The same pictures ask for both.
    assert len({query.content for query in data.queries}) * 2 == len(data.queries)
