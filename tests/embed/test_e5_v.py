"""The `e5-v` encoder on a random checkpoint made here, against plain calls of transformers, padded on the left."""

import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from tokenizers import AddedToken, Tokenizer, pre_tokenizers, processors
from tokenizers.models import BPE
from transformers import (
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaNextProcessor,
    PreTrainedTokenizerFast,
)
from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil

from mmseek import Content, EncodeRequest, load_encoder
from mmseek.embed.e5_v import IMAGE_PROMPT, E5VEncoder, text_prompt
from mmseek.errors import InputError, ModelError
from mmseek.testing import noise_picture as picture

Vectors = Callable[[Any, Sequence[EncodeRequest]], np.ndarray]

MARKS = ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<image>"]
LETTERS = sorted(pre_tokenizers.ByteLevel.alphabet())
SIDE = 28
GRIDS = [[28, 56], [56, 28], [56, 56]]
MEAN, STD = [0.5, 0.4, 0.3], [0.2, 0.3, 0.4]


def tokenizer() -> Tokenizer:
    """A token a byte, and the marks; Llama's own puts the first before every text."""
    made = Tokenizer(BPE({letter: number for number, letter in enumerate(LETTERS)}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.add_special_tokens([AddedToken(mark, special=True) for mark in MARKS])
    made.post_processor = processors.TemplateProcessing(f"{MARKS[0]} $A", special_tokens=[(MARKS[0], 256)])
    return made


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("e5_v")
    torch.manual_seed(0)
    text = {"model_type": "llama", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    vision = {"model_type": "clip_vision_model", "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3}
    config = LlavaNextConfig(
        text_config={
            **text,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "vocab_size": 261,
            "max_position_embeddings": 300,
        },
        vision_config={**vision, "num_attention_heads": 2, "image_size": SIDE, "patch_size": 14},
        image_token_index=260,
        image_grid_pinpoints=GRIDS,
    )
    model = LlavaNextForConditionalGeneration(config)
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(1 if weight.ndim == 1 else 0, 0.2)
    model.save_pretrained(made)
    tokenizer().save(str(made / "tokenizer.json"))
    (made / "preprocessor_config.json").write_text(json.dumps({"image_mean": MEAN, "image_std": STD}))
    return made


@pytest.fixture(scope="session")
def encoder(folder: Path) -> E5VEncoder:
    made = load_encoder(f"e5-v:{folder}", device="cpu")
    assert isinstance(made, E5VEncoder)
    return made


TEXTS = ["A cat and a dog", "a longer text than the first"]
PICTURES = [picture(90, 60), picture(40, 90), picture(50, 50)]
REQUESTS = [EncodeRequest(Content.of(part)) for part in (*TEXTS, *PICTURES)]


@pytest.fixture(scope="session")
def expected(folder: Path) -> np.ndarray:
    """Both prompts written out; a batch of texts and one of pictures, padded on the left; the last state."""
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer(), pad_token="<|eot_id|>", padding_side="left", extra_special_tokens=["<image>"]
    )
    images = LlavaNextImageProcessorPil(
        size={"shortest_edge": SIDE},
        crop_size={"height": SIDE, "width": SIDE},
        image_mean=MEAN,
        image_std=STD,
        image_grid_pinpoints=GRIDS,
    )
    processor = LlavaNextProcessor(
        images, fast, patch_size=14, vision_feature_select_strategy="default", num_additional_image_tokens=1
    )
    turn = (
        "<|start_header_id|>user<|end_header_id|>\n\n{}<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n \n"
    )
    model = LlavaNextForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    texts = [turn.format(f"{text}\nSummary above sentence in one word: ") for text in TEXTS]
    opened = [PIL.Image.open(io.BytesIO(image.data or b"")).convert("RGB") for image in PICTURES]
    seen = [turn.format("<image>\nSummary above image in one word: ")] * len(opened)
    batches: list[dict[str, Any]] = [
        processor(text=texts, return_tensors="pt", padding=True),
        processor(text=seen, images=opened, return_tensors="pt", padding=True),
    ]
    rows = []
    with torch.no_grad():
        for batch in batches:
            positions = (batch["attention_mask"].cumsum(-1) - 1).clamp(min=0)
            states = model(**batch, position_ids=positions, output_hidden_states=True).hidden_states[-1][:, -1]
            rows.append(torch.nn.functional.normalize(states, dim=-1).numpy())
    return np.concatenate(rows)


def test_prompts() -> None:
    assert text_prompt("a cat") == (
        "<|start_header_id|>user<|end_header_id|>\n\na cat\nSummary above sentence in one word: <|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n \n"
    )
    assert IMAGE_PROMPT == (
        "<|start_header_id|>user<|end_header_id|>\n\n<image>\nSummary above image in one word: <|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n \n"
    )


def test_equal_to_plain_transformers(encoder: E5VEncoder, expected: np.ndarray, vectors: Vectors) -> None:
    np.testing.assert_allclose(vectors(encoder, REQUESTS), expected, atol=1e-5)
    assert np.abs(expected @ expected.T - np.eye(len(expected))).max() < 0.9999  # they are all different


def test_batches_change_nothing(encoder: E5VEncoder, vectors: Vectors) -> None:
    single = np.concatenate([vectors(encoder, [request]) for request in REQUESTS])
    order = [3, 0, 2, 1, 4, 0]
    np.testing.assert_allclose(vectors(encoder, [REQUESTS[n] for n in order]), single[order], atol=1e-5)
    for kind, part in (("text", REQUESTS[:2]), ("picture", REQUESTS[2:])):
        payloads = [encoder.prepare(request)[0].payload for request in part]
        rows = single[:2] if kind == "text" else single[2:]
        np.testing.assert_allclose(encoder.forward(kind, payloads), rows, atol=1e-5)


def test_both_together_are_the_sum(encoder: E5VEncoder, expected: np.ndarray, vectors: Vectors) -> None:
    request = EncodeRequest(Content.of(PICTURES[0], PICTURES[1], TEXTS[0]), "query", "not used")
    pictures = expected[2] + expected[3]
    total = expected[0] + pictures / np.linalg.norm(pictures)
    np.testing.assert_allclose(vectors(encoder, [request])[0], total / np.linalg.norm(total), atol=1e-5)


@pytest.mark.parametrize(
    ("text", "words"), [(" ", "neither text nor image"), ("an <image> here", "take it out"), ("a" * 400, "shorten it")]
)
def test_what_is_refused_fails_alone(encoder: E5VEncoder, text: str, words: str) -> None:
    first, second = encoder.stream([EncodeRequest(Content.of(text)), REQUESTS[0]])
    assert isinstance(first.error, InputError)
    assert words in str(first.error)
    assert second.vector is not None


def test_another_kind_of_model(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    (tmp_path / "config.json").write_text('{"model_type": "llava"}')
    with pytest.raises(ModelError, match="use another family"):
        load_encoder(f"e5-v:{tmp_path}", device="cpu")
