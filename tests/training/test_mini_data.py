"""Which pictures the image tower learns from, and the whole command on generated pictures with a stub teacher."""

import io
import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from mmseek.embed.mini.tower import load_tower, read_header
from mmseek.training.mini import cli
from mmseek.training.mini.data import CAPTION_SETS, captioned, load_pictures, on_white, read_qrels
from mmseek.training.mini.teacher import Teacher

DATA = Path(__file__).parents[3] / "shared" / "data"
CLASSES = ["ant, pismire", "bee", "cat"]
STUB_TEACHER = """
import torch
from torch import nn

class Stub(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.classifier = nn.Linear(12, 4)
        self.grid = nn.AdaptiveAvgPool2d(2)

    def embed(self, x):
        return self.grid(x).flatten(1)

def load():
    return Stub()

def labels():
    return ["background", "ant, pismire", "bee", "cat"]
"""


def png(seed: int, mode: str = "RGB") -> bytes:
    rng = np.random.default_rng(seed)
    image = Image.fromarray(rng.integers(0, 256, (2, 2, 3), dtype=np.uint8)).resize((16, 12)).convert(mode)
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def write_lines(path: Path, rows: list[dict[str, object]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write_captioned(folder: Path) -> None:
    """Four pictures: of train, of dev, of test, and one of both train and test; one query is not in English."""
    (folder / "images").mkdir(parents=True)
    (folder / "qrels").mkdir()
    for name in "abcd":
        (folder / "images" / f"{name}.png").write_bytes(png(ord(name)))
    write_lines(folder / "corpus.jsonl", [{"id": n, "image": f"images/{n}.png", "metadata": {}} for n in "abcd"])
    tasks = {"q1": "text->image", "q2": "text->image:de", "q3": "text->image", "q4": "image+text->image"}
    write_lines(
        folder / "queries.jsonl", [{"id": q, "text": f"text {q}", "metadata": {"task": t}} for q, t in tasks.items()]
    )
    rows = {"train": "q1\ta\t1\nq2\ta\t1\nq4\ta\t1\nq1\td\t1\n", "dev": "q3\tb\t1\n", "test": "q3\tc\t1\nq3\td\t1\n"}
    for split, text in rows.items():
        (folder / "qrels" / f"{split}.tsv").write_text("query-id\tcorpus-id\tscore\n" + text, encoding="utf-8")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for name in CAPTION_SETS:
        write_captioned(tmp_path / "data" / name)
    tiny, caltech = tmp_path / "data" / "tiny_imagenet", tmp_path / "data" / "caltech101"
    tiny.mkdir()
    (caltech / "images").mkdir(parents=True)
    labels = []
    with tarfile.open(tiny / "images.tar", "w") as archive:
        for i in range(90):
            info = tarfile.TarInfo(f"{i}.PNG")
            content = png(i)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
            labels.append({"name": info.name, "label": "x", "synonyms": CLASSES[i % 3].split(", ")})
    write_lines(tiny / "labels.jsonl", labels)
    rows = []
    for i in range(10):
        (caltech / "images" / f"{i}.png").write_bytes(png(1000 + i))
        label = "background google" if i % 2 else "chair"
        rows.append({"id": f"c{i}", "image": f"images/{i}.png", "metadata": {"label": label}})
    write_lines(caltech / "corpus.jsonl", rows)
    return tmp_path / "data"


def test_only_pictures_of_train_alone_are_taken_with_their_english_texts(data: Path) -> None:
    (only,) = captioned(data / "emoji")
    assert (only.name, only.texts) == ("a", ("text q1",))


def test_held_out_photos_are_labelled_and_not_trained_on(data: Path) -> None:
    pictures = load_pictures(data, seed=0, held_out=0.2)
    names = {(picture.source, picture.name) for picture in pictures.train}
    assert len(pictures.held_out) == 19
    assert all(picture.label for picture in pictures.held_out)
    assert names.isdisjoint((picture.source, picture.name) for picture in pictures.held_out)
    assert len(pictures.train) == 100 - 19 + len(CAPTION_SETS)
    again = load_pictures(data, seed=0, held_out=0.2)
    other = load_pictures(data, seed=1, held_out=0.2)
    assert pictures.held_out == again.held_out != other.held_out


def test_transparent_pictures_lie_on_white() -> None:
    clear = Image.new("RGBA", (2, 2), (10, 20, 30, 0))
    assert on_white(clear).getpixel((0, 0)) == (255, 255, 255)


def test_a_folder_without_a_teacher_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="--teacher"):
        Teacher(tmp_path)


def test_a_run_without_end_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.arguments(["--data", "d", "--teacher", "t", "--out", "o", "--minutes", "0"])
    assert "--minutes or --steps" in capsys.readouterr().err


def test_the_command_trains_from_pictures_to_a_weights_file(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "teacher").mkdir()
    (tmp_path / "teacher" / "teacher.py").write_text(STUB_TEACHER, encoding="utf-8")

    def encode(texts: list[str]) -> Tensor:
        seeds = [sum(text.encode()) for text in texts]
        vectors = torch.stack([torch.randn(8, generator=torch.Generator().manual_seed(seed)) for seed in seeds])
        return torch.nn.functional.normalize(vectors, dim=-1)

    monkeypatch.setattr(cli, "minilm", lambda: encode)
    out, work = tmp_path / "tower.safetensors", tmp_path / "work"
    work.mkdir()
    command = ["--data", str(data), "--teacher", str(tmp_path / "teacher"), "--out", str(out), "--work", str(work)]
    cli.main([*command, "--minutes", "0", "--steps", "2", "--sets", "1", "--workers", "1", "--seed", "5"])
    header = read_header(out)
    assert (header["seed"], header["steps"]) == ("5", "2")
    assert json.loads(header["data"])["emoji"] == 1
    tower = load_tower(out)
    assert tower(torch.zeros(1, 112, 112, 3, dtype=torch.uint8)).shape == (1, 8)
    assert (work / "tower.safetensors").is_file()
    assert header["start"] == "nothing"
    # On from there, and not all of the way; at 0 of the way nothing has changed.
    first = shutil.copy(work / "tower.safetensors", tmp_path / "first.safetensors")
    command += ["--minutes", "0", "--steps", "1", "--sets", "1", "--workers", "1", "--seed", "5", "--start", str(first)]
    for blend, same in (("0", True), ("0.5", False)):
        cli.main([*command, "--blend", blend, "--head", "1.0", "0.3"])
        after = load_tower(out)
        assert torch.allclose(after.stem.conv.weight, tower.stem.conv.weight, atol=1e-6) == same
        assert json.loads(read_header(out)["head"]) == {"temperature": 1.0, "centre": 0.3}


def test_no_evaluation_picture_is_trained_on() -> None:
    if not DATA.is_dir():
        pytest.skip(f"{DATA} is not here")
    for name in CAPTION_SETS:
        closed = {doc for split in ("dev", "test") for _, doc in read_qrels(DATA / name / "qrels" / f"{split}.tsv")}
        taken = {picture.name for picture in captioned(DATA / name)}
        assert taken
        assert taken.isdisjoint(closed)
