from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

WORDS = [
    "a",
    "red",
    "blue",
    "boat",
    "on",
    "the",
    "sea",
    "street",
    "what",
    "colour",
    "is",
    "it",
    "one",
    "two",
    "three",
    "dog",
]


@pytest.fixture(scope="session")
def make_cross_encoder(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Write a tiny random BERT cross-encoder, made from its configuration."""

    def make(labels: int = 1, *, safe: bool = True) -> Path:
        import torch
        from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

        torch.manual_seed(0)
        folder = tmp_path_factory.mktemp("cross_encoder")
        vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
        (folder / "vocab.txt").write_text("".join(f"{word}\n" for word in vocabulary))
        config = BertConfig(
            vocab_size=len(vocabulary),
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=64,
            max_position_embeddings=64,
            num_labels=labels,
            initializer_range=0.5,  # so that scores differ
        )
        model = BertForSequenceClassification(config)
        if safe:
            model.save_pretrained(folder)
        else:
            config.save_pretrained(folder)
            torch.save(model.state_dict(), folder / "pytorch_model.bin")
        tokenizer = BertTokenizerFast(vocab={word: place for place, word in enumerate(vocabulary)})
        tokenizer.model_max_length = 64
        tokenizer.save_pretrained(folder)
        return folder

    return make


@pytest.fixture(scope="session")
def cross_encoder(make_cross_encoder: Callable[..., Path]) -> Path:
    return make_cross_encoder()


@pytest.fixture(scope="session")
def oracle() -> Path:
    """Scores of the published code on a tiny random checkpoint."""
    folder = Path(__file__).parents[3] / "shared" / "oracles" / "qwen3_vl_reranker"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not here")
    return folder
