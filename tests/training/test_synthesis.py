"""Rows from an endpoint that does well, and from one that does not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pillow

from mmseek.errors import ConfigError, EndpointError, InputError, StorageError
from mmseek.media import MediaLimits
from mmseek.pipeline.chat import Chat, Reply
from mmseek.testing import FakeEncoder
from mmseek.training.data.triples import TriplesFile
from mmseek.training.synthesis import KINDS, Pool, SynthesisOptions, chosen_kinds, read_pool, synthesize
from mmseek.training.synthesis.answers import BadAnswer, read
from mmseek.training.synthesis.journal import Journal, Spending
from mmseek.training.synthesis.kinds import Plan
from mmseek.training.synthesis.run import SynthesisReport, answers_file

LIMITS = MediaLimits()
VQA = chosen_kinds(["vqa"])
ONE = SynthesisOptions(rows=6, kinds=VQA, parallel=1)
ASPECTS = {"general": "a", "objects": "b", "context": "c", "relations": "d"}
GOOD = {"alignment": 5, "positive": 4, "hard_negative": 5, "problem": "none"}


def asked_for(body: dict[str, Any]) -> Any:
    """The object that shows the model its form, or, in a review, the row to be judged."""
    text = body["messages"][1]["content"][-1]["text"]
    if text.startswith("An answer before"):
        text = body["messages"][1]["content"][-2]["text"]
    return json.JSONDecoder().raw_decode(text[text.index("{\n") :])[0]


def well(body: dict[str, Any], **changes: Any) -> str:
    """An answer as it should be; texts differ from call to call."""
    wanted, number = asked_for(body), next(NUMBERS)
    if "draft" not in wanted:
        return json.dumps({"evaluation": GOOD, "final": wanted, "keep": True} | changes)
    draft = {field: f"{field} {number}" for field in wanted["draft"]}
    found = {"descriptions": [ASPECTS] * len(wanted["descriptions"]), "draft": draft}
    return json.dumps({**found, "evaluation": GOOD, "final": draft, "keep": True} | changes)


NUMBERS = count()


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(6):
        Pillow.new("RGB", (16, 16), (40 * number, 10, 200 - 20 * number)).save(folder / f"{number}.png")
    Pillow.new("RGB", (16, 16), (0, 10, 200)).save(folder / "zero-again.png")
    (folder / "words.txt").write_text("no picture")
    return folder


@pytest.fixture
def pool(pictures: Path) -> Pool:
    found = read_pool([pictures], LIMITS)
    found.compare(FakeEncoder())
    return found


@pytest.fixture
def chat(fake_chat: Any) -> Chat:
    fake_chat.answers = [well]
    return Chat(fake_chat.url, "qwen", wait=0.01, timeout=120)


@pytest.fixture
def run(pool: Pool, chat: Chat, tmp_path: Path) -> Callable[..., SynthesisReport]:
    def run(options: SynthesisOptions = ONE, chat: Chat = chat, **changes: Any) -> SynthesisReport:
        return synthesize(pool, chat, tmp_path / "rows.jsonl", replace(options, **changes), limits=LIMITS)

    return run


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_rows_of_all_kinds_can_be_trained_on(
    run: Callable[..., SynthesisReport], pool: Pool, tmp_path: Path, fake_chat: Any
) -> None:
    assert len(pool) == 6, "the seventh has the bytes of the first"
    report = run(SynthesisOptions(rows=60, languages=("English", "Deutsch")))

    assert (report.asked, report.rows, report.calls, report.bad_answers, report.stopped) == (60, 60, 60, {}, None)
    assert set(report.by_kind) == {kind.name for kind in KINDS}
    assert set(report.by_language) == {"English", "Deutsch"}
    source = TriplesFile(tmp_path / "rows.jsonl")
    assert (len(source), source.bad) == (60, ())
    written = lines(tmp_path / "rows.jsonl")
    kinds = {kind.name: kind for kind in KINDS}
    for number, line in enumerate(written):
        row, kind = source.row(number), kinds[line["metadata"]["task"]]
        assert row.query.content.modality == kind.query
        assert {each.content.modality for each in (*row.positives, *row.negatives)} == {kind.document}
        assert row.query.instruction is not None
        assert row.query.instruction.startswith("instruction ")
        assert row.positives != row.negatives
        assert list(line["metadata"]["pictures"]) == list(kind.roles)
        assert len(set(line["metadata"]["pictures"].values())) == len(kind.roles)
    assert written[0]["metadata"].keys() >= {"model", "prompt", "at", "scores", "descriptions", "revised"}
    sent = [sum(part["type"] == "image_url" for part in body["messages"][1]["content"]) for body in fake_chat.bodies]
    assert set(sent) == {1, 2, 3}
    assert not list(tmp_path.glob(".*part"))


def test_what_was_answered_is_not_asked_again(
    run: Callable[..., SynthesisReport], tmp_path: Path, fake_chat: Any
) -> None:
    run()
    before = (tmp_path / "rows.jsonl").read_bytes()
    again = run(parallel=3)
    assert (again.calls, again.known, again.rows, len(fake_chat.bodies)) == (6, 6, 6, 6)
    assert (tmp_path / "rows.jsonl").read_bytes() == before
    assert run(rows=8).rows == 8
    assert len(fake_chat.bodies) == 8
    assert (tmp_path / "rows.jsonl").read_bytes().startswith(before)
    run(seed=1)
    assert len(fake_chat.bodies) > 8


def test_a_half_written_answer_is_cut_away(run: Callable[..., SynthesisReport], tmp_path: Path, fake_chat: Any) -> None:
    run()
    kept = answers_file(tmp_path / "rows.jsonl")
    kept.write_bytes(kept.read_bytes()[:-40])
    assert run().rows == 6
    assert len(fake_chat.bodies) == 7
    assert len(lines(kept)) == 6
    kept.write_text("{}\n")
    with pytest.raises(StorageError, match="is no file of answers"):
        run()


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ("I am sorry, but I cannot do that.", "not JSON"),
        ("", "empty"),
        ("[1]", "not JSON"),
        ('{"keep": true, "keep": false}', "not JSON"),
        ('{"keep": NaN}', "not JSON"),
        ("{}", "other form"),
        ("[" * 5000, "not JSON"),
        ({"choices": [{"message": {"content": None, "refusal": "no"}}]}, "refusal"),
        ({"choices": [{"message": {"content": "{"}, "finish_reason": "length"}]}, "cut off"),
        ({"choices": [{"message": {"content": "{"}, "finish_reason": "content_filter"}]}, "refusal"),
        ({"choices": []}, "empty"),
        (lambda body: well(body, more=1), "other form"),
        (lambda body: well(body, keep="yes"), "other form"),
        (lambda body: well(body, descriptions=[]), "other form"),
        (lambda body: well(body, evaluation=GOOD | {"alignment": 5.0}), "other form"),
        (lambda body: well(body, evaluation=GOOD | {"alignment": True}), "other form"),
        (lambda body: well(body, evaluation=GOOD | {"alignment": 6}), "other form"),
        (lambda body: well(body, final=FINAL | {"query": " "}), "other form"),
        (lambda body: well(body, final=FINAL | {"query": 3}), "other form"),
        (lambda body: well(body, final=FINAL | {"query": "x" * 5000}), "other form"),
        (lambda body: well(body, final=FINAL | {"hard_negative": "RED"}), "no row"),
        (lambda body: well(body, final=FINAL | {"query": "red"}), "no row"),
    ],
)
def test_answers_that_cannot_be_used_are_counted_and_asked_for_again(
    run: Callable[..., SynthesisReport], fake_chat: Any, answer: Any, kind: str
) -> None:
    fake_chat.answers = [answer, well]
    report = run(rows=2)
    assert (report.rows, report.bad_answers, report.calls) == (2, {kind: 1}, 3)
    assert report.named[0][0] == "synthetic-0-0"
    assert "could not be used" in json.dumps(fake_chat.bodies[1])
    assert "could not be used" not in json.dumps(fake_chat.bodies[2])


FINAL = {"instruction": "Answer.", "query": "which colour?", "positive": "red", "hard_negative": "blue"}


def test_a_row_without_any_answer_of_use_is_given_up(run: Callable[..., SynthesisReport], fake_chat: Any) -> None:
    fake_chat.answers = ["no", "no", well]
    report = run(rows=2)
    assert (report.asked, report.rows, report.unusable, report.bad_answers) == (2, 1, 1, {"not JSON": 2})
    fake_chat.answers = ["no"]
    with pytest.raises(InputError, match=r"no row came of it: the answer is not one JSON object"):
        run(rows=2, seed=5)


def test_fences_and_thoughts_are_taken_off(run: Callable[..., SynthesisReport], fake_chat: Any) -> None:
    fake_chat.answers = [lambda body: f"<think>well\n{{}}</think>\n```json\n{well(body)}\n```"]
    assert run(rows=2).bad_answers == {}


def test_the_model_mends_drops_and_scores_its_rows(
    run: Callable[..., SynthesisReport], fake_chat: Any, tmp_path: Path
) -> None:
    low = GOOD | {"hard_negative": 2}
    fake_chat.answers = [
        lambda body: well(body, final=FINAL),
        lambda body: well(body, keep=False, final={}),
        lambda body: well(body, evaluation=low),
        well,
    ]
    report = run(rows=4)
    assert (report.rows, report.revised, report.dropped, report.bad_answers) == (2, 1, 2, {})
    first = lines(tmp_path / "rows.jsonl")[0]
    assert (first["query"]["text"], first["instruction"]) == ("which colour?", "Answer.")
    assert first["metadata"]["revised"] is True
    assert run(rows=4, min_score=2).rows == 3
    fake_chat.answers = [lambda body: well(body, final=FINAL)]
    pictures = {row["query"]["image"] for row in lines(tmp_path / "rows.jsonl")}
    assert len(pictures) == 3
    report = run(rows=12, seed=3)
    assert (report.rows, report.doubles) == (6, 6), "the same texts over the same pictures"


def test_a_review_judges_what_was_written(run: Callable[..., SynthesisReport], fake_chat: Any, tmp_path: Path) -> None:
    def reviewing(body: dict[str, Any]) -> str:
        row = asked_for(body)
        return well(body) if "draft" in row else well(body, final=row | {"query": "mended?"})

    fake_chat.answers = [reviewing]
    report = run(rows=3, review=True)
    assert (report.calls, report.rows, report.revised) == (6, 3, 3)
    line = lines(tmp_path / "rows.jsonl")[0]
    assert line["query"]["text"] == "mended?"
    assert line["metadata"]["reviewed"] is True
    assert line["metadata"]["descriptions"] == [ASPECTS]
    fake_chat.answers = [lambda body: well(body) if "draft" in asked_for(body) else well(body, keep=False)]
    with pytest.raises(InputError, match="stands by none"):
        run(rows=2, review=True, seed=9)


def test_an_endpoint_that_is_busy_is_asked_again(
    run: Callable[..., SynthesisReport], chat: Chat, fake_chat: Any
) -> None:
    fake_chat.answers = [429, 500, well]
    report = run(rows=2)
    assert (report.rows, report.calls, report.failed) == (2, 4, [])
    fake_chat.headers, fake_chat.answers = {"retry-after": "1"}, [429, well]
    began = time.monotonic()
    run(rows=1, seed=1)
    assert time.monotonic() - began >= 1
    fake_chat.headers = {"retry-after": "tomorrow"}
    fake_chat.answers = [429, well]
    assert run(rows=1, seed=2).rows == 1


def test_an_endpoint_that_hangs_is_left_and_asked_again(
    run: Callable[..., SynthesisReport], chat: Chat, fake_chat: Any
) -> None:
    over = threading.Event()

    def hangs(body: dict[str, Any]) -> str:
        over.wait(120)
        return well(body)

    fake_chat.answers = [hangs, well]
    try:
        report = run(rows=2, chat=replace(chat, timeout=2))
    finally:
        over.set()
    assert (report.rows, report.calls) == (2, 3)


def test_rows_that_fail_are_named_and_asked_for_in_the_next_run(
    run: Callable[..., SynthesisReport], fake_chat: Any
) -> None:
    fake_chat.answers = [well, 400, well]
    report = run(rows=3)
    assert (report.rows, report.asked) == (2, 3)
    ((name, reason),) = report.failed
    assert name == "synthetic-0-1"
    assert "status 400" in reason
    assert run(rows=3).rows == 3
    assert len(fake_chat.bodies) == 4


def test_an_endpoint_that_is_down_is_left_alone(run: Callable[..., SynthesisReport], fake_chat: Any) -> None:
    fake_chat.answers = [well, 401]
    report = run(rows=30)
    assert report.rows == 1
    assert report.stopped is not None
    assert "failed 5 times running" in report.stopped
    assert len(fake_chat.bodies) <= 9
    with pytest.raises(EndpointError, match=r"no row came of it: .*status 401"):
        run(rows=30, seed=1)


def test_limits_are_kept_over_all_runs(run: Callable[..., SynthesisReport], fake_chat: Any, tmp_path: Path) -> None:
    report = run(max_calls=2)
    assert (report.rows, report.calls, report.stopped) == (2, 2, "--max-calls is reached")
    assert report.tokens_guessed
    again = run(max_calls=5)
    assert (again.known, again.calls, len(fake_chat.bodies)) == (2, 5, 5)
    counted = lambda body: {  # noqa: E731
        "choices": [{"message": {"content": well(body)}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 90, "completion_tokens": 10},
    }
    fake_chat.answers = [counted]
    answers_file(tmp_path / "rows.jsonl").unlink()
    report = run(max_tokens=250)
    assert (report.rows, report.prompt_tokens, report.completion_tokens) == (3, 270, 30)
    assert (report.stopped, report.tokens_guessed) == ("--max-tokens is reached", False)
    with pytest.raises(InputError, match="--max-calls is reached"):
        run(max_calls=0, seed=1)


def test_a_picture_that_is_gone_costs_its_rows_only(
    run: Callable[..., SynthesisReport], pictures: Path, fake_chat: Any
) -> None:
    (pictures / "3.png").write_bytes(b"no picture any more")
    report = run()
    assert (report.rows, len(report.failed), len(fake_chat.bodies)) == (5, 1, 5)


def test_the_plan_is_the_seeds_and_every_picture_comes_once_a_turn() -> None:
    def near(number: int) -> list[int]:
        return [(number + step) % 10 for step in range(1, 10)]

    def jobs(seed: int, rows: int = 200) -> list[Any]:
        plan = Plan(10, KINDS, ["a", "b"], near, seed)
        return [plan.job(number) for number in range(rows)]

    assert jobs(1) == jobs(1)
    assert jobs(1) != jobs(2)
    assert jobs(1, 30) == jobs(1)[:30]
    for turn in range(20):
        assert {job.pictures[0] for job in jobs(1)[10 * turn : 10 * turn + 10]} == set(range(10))
    for job in jobs(1):
        assert len(set(job.pictures)) == len(job.pictures) == max(1, len(job.kind.roles))
    tasks = [job.kind.task for job in jobs(1)]
    assert 70 < tasks.count("retrieval") < 130
    assert min(tasks.count("vqa"), tasks.count("classification")) > 25
    assert {job.kind for job in [Plan(1, KINDS, ["a"], near, 0).job(n) for n in range(50)]} == {
        kind for kind in KINDS if len(kind.roles) == 1
    }
    with pytest.raises(ConfigError, match="make no row"):
        Plan(1, chosen_kinds(["retrieval:text->image"]), ["a"], near, 0)
    with pytest.raises(ConfigError, match="no task 'vqb'"):
        chosen_kinds(["vqb"])


def test_alike_pictures_are_near(pool: Pool) -> None:
    assert pool.vectors is not None
    for number in range(len(pool)):
        near = pool.near(number)
        assert number not in near
        scores = [float(pool.vectors[number] @ pool.vectors[other]) for other in near]
        assert scores == sorted(scores, reverse=True)


_KEYS = ["descriptions", "draft", "evaluation", "final", "keep", "query", "alignment"]
_LEAVES = st.none() | st.booleans() | st.integers() | st.text()


@given(
    st.recursive(_LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(_KEYS), inner), max_leaves=9)
)
def test_whatever_is_answered_is_a_row_or_a_bad_answer(value: Any) -> None:
    with pytest.raises(BadAnswer):
        read(Reply(json.dumps(value)), VQA[0])


@given(st.text())
def test_whatever_is_written_is_a_bad_answer(text: str) -> None:
    with pytest.raises(BadAnswer):
        read(Reply(text), VQA[0])


def test_kill_9_loses_no_answer(pictures: Path, fake_chat: Any, tmp_path: Path) -> None:
    """The process dies while the fourth answer is on its way: only that one is asked for again."""
    output = tmp_path / "rows.jsonl"
    line = [sys.executable, "-m", "mmseek", "synthesize", pictures, "--llm-url", fake_chat.url, "--model", "m"]
    line += ["-o", output, "--task", "vqa", "--rows", "6", "--parallel", "1", "--json"]
    processes: list[subprocess.Popen[str]] = []

    def kills(body: dict[str, Any]) -> str:
        os.kill(processes[0].pid, signal.SIGKILL)
        processes[0].wait()
        return well(body)

    def go() -> tuple[int, str]:
        with subprocess.Popen([str(each) for each in line], stdout=subprocess.PIPE, text=True) as process:
            processes.append(process)
            out, _ = process.communicate(timeout=240)
        return process.returncode, out

    fake_chat.answers = [well, well, well, kills, well]
    assert go()[0] == -signal.SIGKILL
    assert not output.exists()
    assert len(lines(answers_file(output))) == 3
    code, out = go()
    assert code == 0
    assert (json.loads(out)["known"], json.loads(out)["rows"], len(fake_chat.bodies)) == (3, 6, 7)
    asked = [json.dumps(body["messages"]) for body in fake_chat.bodies]
    assert asked[3] == asked[4]
    assert len(set(asked)) == 6


def test_the_journal_knows_questions_by_all_that_decides(tmp_path: Path, chat: Chat, fake_chat: Any) -> None:
    fake_chat.answers = ["yes"]
    journal = Journal(tmp_path / "answers.jsonl", Spending())
    asked = [{"role": "user", "content": [{"type": "text", "text": "?"}]}]
    for other in (chat, replace(chat, model="o"), replace(chat, temperature=0.5), replace(chat, max_tokens=9), chat):
        journal.ask(other, asked, ["a"], {})
    journal.ask(chat, asked, ["b"], {})
    assert len(fake_chat.bodies) == 5
    with pytest.raises(StorageError, match="is being written by another run"):
        Journal(tmp_path / "answers.jsonl", Spending())
    journal.close()
