"""mteb's own offline mocks and a task of ours, through the adapters."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

from mmseek.errors import EncodeError, InputError
from mmseek.testing import FakeEncoder, FakeReranker

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import mteb
    from datasets import Dataset
    from mteb.abstasks.retrieval import AbsTaskRetrieval
    from mteb.abstasks.retrieval_dataset_loaders import RetrievalSplitData
    from mteb.abstasks.task_metadata import TaskMetadata
    from mteb.mocks.mock_run import mock_run
    from mteb.models.models_protocols import EncoderProtocol, SearchProtocol
    from mteb.types import PromptType

    from mmseek.evaluation.mteb_adapter import MtebEncoder, MtebRetriever, content_of

pytestmark = pytest.mark.filterwarnings("ignore")


class LocalTask(AbsTaskRetrieval):  # type: ignore[misc]
    """Every query finds the document with its own words; nothing comes from a hub."""

    metadata = TaskMetadata(
        name="MmseekLocal",
        description="Equal texts.",
        reference=None,
        dataset={"path": "local", "revision": "1"},
        type="Retrieval",
        category="t2t",
        modalities=["text"],
        eval_splits=["test"],
        eval_langs=["eng-Latn"],
        main_score="ndcg_at_10",
        date=None,
        domains=None,
        task_subtypes=None,
        license=None,
        annotations_creators=None,
        dialect=None,
        sample_creation=None,
        bibtex_citation=None,
    )

    def load_data(self, **_kwargs: Any) -> None:
        rows = [{"id": f"d{number}", "text": f"text {number}", "title": ""} for number in range(12)]
        queries = [{"id": f"q{number}", "text": f"text {number}"} for number in range(4)]
        split = RetrievalSplitData(
            corpus=Dataset.from_list(rows),
            queries=Dataset.from_list(queries),
            relevant_docs={f"q{number}": {f"d{number}": 1} for number in range(4)},
            top_ranked=None,
        )
        self.dataset = {"default": {"test": split}}
        self.data_loaded = True


def score(model: Any) -> float:
    found = mteb.evaluate(model, LocalTask(), cache=None, show_progress_bar=False, co2_tracker=False)
    return float(found.task_results[0].get_score())


def test_the_adapters_are_what_mteb_asks_for() -> None:
    assert isinstance(MtebEncoder(FakeEncoder()), EncoderProtocol)
    assert isinstance(MtebRetriever(FakeEncoder()), SearchProtocol)
    assert not isinstance(MtebRetriever(FakeEncoder()), EncoderProtocol)
    assert MtebEncoder(FakeEncoder()).mteb_model_meta.name == "mmseek/fake"


def test_a_local_task_scores_alike_through_encoder_and_retriever() -> None:
    assert score(MtebEncoder(FakeEncoder(dim=64))) == 1.0
    for mode in ("dense", "hybrid"):
        retriever = MtebRetriever(FakeEncoder(dim=64), mode=mode)
        assert score(retriever) == 1.0
        retriever.close()


@pytest.mark.parametrize("whole", [False, True])
def test_the_mocks_of_mteb_pass(whole: bool) -> None:
    encoder = FakeEncoder(dim=32)
    with MtebRetriever(encoder, reranker=FakeReranker(lambda _pair: 0.5), rerank_depth=5) as retriever:
        results = mock_run(retriever if whole else MtebEncoder(encoder))
    ran = {name: each for name, each in results.items() if each is not None}
    failed = {name: str(each) for name, each in ran.items() if not hasattr(each, "scores")}
    assert failed == {}
    assert len(ran) >= 10


def test_what_cannot_be_encoded_is_an_error_and_never_a_shorter_array() -> None:
    model = MtebEncoder(FakeEncoder(fail_on="bad"))
    batches = [{"text": ["good", "bad"]}]
    with pytest.raises(EncodeError, match="item 1 of the task"):
        model.encode(batches, task_metadata=LocalTask.metadata, hf_split="test", hf_subset="default", prompt_type=None)
    vectors = model.encode(
        [{"text": ["a"], "title": ["t"]}, {"text": ["b"]}],
        task_metadata=LocalTask.metadata,
        hf_split="test",
        hf_subset="default",
    )
    assert vectors.shape == (2, 16)
    assert vectors.dtype == np.float32
    with pytest.raises(InputError, match="call index first"):
        MtebRetriever(FakeEncoder()).search([], top_k=1)


def test_words_of_a_row_are_its_own() -> None:
    assert content_of({"text": "words", "title": "T"}).text == "T words"
    assert content_of({"text": "T words", "title": "T", "body": "words"}).text == "T words"
    assert content_of({"text": "words please", "query": "words", "instruction": "please"}).text == "words"
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    assert content_of({"text": turns}).text == "user: a; assistant: b"
    assert content_of({"text": ["a", "b"]}).text == "a; b"
    with pytest.raises(InputError, match="neither a text nor a picture"):
        content_of({"text": None})


def test_the_instruction_goes_to_the_encoder_once() -> None:
    class Listening(FakeEncoder):
        def stream(self, requests: Any) -> Any:
            asked.extend(requests := list(requests))
            return super().stream(requests)

    asked: list[Any] = []
    rows = [{"text": ["words please"], "query": ["words"], "instruction": ["please"]}]
    model, where = MtebEncoder(Listening()), {"hf_split": "test", "hf_subset": "default"}
    model.encode(rows, task_metadata=LocalTask.metadata, prompt_type=PromptType.query, **where)
    model.encode([{"text": ["doc"]}], task_metadata=LocalTask.metadata, prompt_type=PromptType.document, **where)
    assert [(each.content.text, each.role, each.instruction) for each in asked] == [
        ("words", "query", "please"),
        ("doc", "document", None),
    ]
