"""`st:` with a model that reads chats: a tiny random Qwen2-VL, against `SentenceTransformer` itself."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Transformer
from sentence_transformers.sentence_transformer.modules import Pooling
from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2VLConfig,
    Qwen2VLImageProcessorPil,
    Qwen2VLModel,
    Qwen2VLProcessor,
    Qwen2VLVideoProcessor,
)

from mmseek import Content, EncodeRequest, Image, load_encoder

MARKS = ["<|end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
TEMPLATE = (
    "{% for message in messages %}[{{ message['role'] }}]"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}{% endfor %}<|end|>"
)
TEXT = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}


@pytest.fixture(scope="module")
def chats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    parts, folder = tmp_path_factory.mktemp("parts"), tmp_path_factory.mktemp("chats") / "model"
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    bytewise = Tokenizer(BPE({letter: number for number, letter in enumerate(letters)}, []))
    bytewise.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytewise.decoder = decoders.ByteLevel()
    bytewise.add_special_tokens([AddedToken(mark, special=True) for mark in MARKS])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bytewise, pad_token="<|end|>", eos_token="<|end|>")
    number = {mark: bytewise.token_to_id(mark) for mark in MARKS}
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]}
    ends = {"bos_token_id": None, "eos_token_id": number["<|end|>"], "pad_token_id": number["<|end|>"]}
    config = Qwen2VLConfig(
        text_config={
            **TEXT,
            **ends,
            "num_key_value_heads": 2,
            "vocab_size": len(letters) + len(MARKS),
            "rope_parameters": rope,
        },
        vision_config={"depth": 2, "embed_dim": 32, "hidden_size": 64, "num_heads": 2, "mlp_ratio": 2},
        image_token_id=number["<|image_pad|>"],
        video_token_id=number["<|video_pad|>"],
        vision_start_token_id=number["<|vision_start|>"],
        vision_end_token_id=number["<|vision_end|>"],
    )
    torch.manual_seed(0)
    model = Qwen2VLModel(config)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.normal_(0, 0.2)
    model.save_pretrained(parts)
    pictures = Qwen2VLImageProcessorPil(size={"shortest_edge": 3136, "longest_edge": 12544})
    processor = Qwen2VLProcessor(pictures, tokenizer, Qwen2VLVideoProcessor(), chat_template=TEMPLATE)
    processor.save_pretrained(parts)
    modules = [Transformer(str(parts)), Pooling(64, "lasttoken")]
    SentenceTransformer(modules=modules, device="cpu").save_pretrained(str(folder))
    return folder


def noise(width: int, height: int) -> Image:
    pixels = np.random.default_rng(width * height).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return Image.from_pil(PIL.Image.fromarray(pixels))


def opened(image: Image) -> PIL.Image.Image:
    return PIL.Image.open(io.BytesIO(image.data or b""))


def said(*parts: str | Image) -> list[dict[str, Any]]:
    content = [
        {"type": "text", "text": part} if isinstance(part, str) else {"type": "image", "image": opened(part)}
        for part in parts
    ]
    return [{"role": "user", "content": content}]


def test_any_sequence_of_texts_and_pictures(chats: Path) -> None:
    encoder = load_encoder(f"st:{chats}", device="cpu")
    model = SentenceTransformer(str(chats), device="cpu", local_files_only=True)
    wide, tall = noise(90, 60), noise(60, 120)
    cases: list[tuple[EncodeRequest, Any, str | None]] = [
        (EncodeRequest(Content.of("a cat")), "a cat", None),
        (EncodeRequest(Content.of("a cat"), "query", "Find it"), "a cat", "Find it"),
        (EncodeRequest(Content.of(wide)), opened(wide), None),
        (EncodeRequest(Content.of(wide), "query", "Find it"), opened(wide), "Find it"),
        (EncodeRequest(Content.of(wide, "which?")), {"image": opened(wide), "text": "which?"}, None),
        (EncodeRequest(Content.of("which?", wide)), said("which?", wide), None),
        (EncodeRequest(Content.of("one", wide, "two", " ", tall)), said("one", wide, "two", tall), None),
        (EncodeRequest(Content.of(wide, tall)), said(wide, tall), None),
    ]
    wanted = []
    for request, value, prompt in cases:
        encode = model.encode_query if request.role == "query" else model.encode_document
        wanted.append(encode([value], prompt=prompt)[0])
    expected = np.stack(wanted) / np.linalg.norm(np.stack(wanted), axis=1, keepdims=True)
    found = list(encoder.stream(request for request, *_ in cases))
    assert [encoded.error for encoded in found] == [None] * len(cases)
    rows = np.stack([encoded.vector for encoded in found if encoded.vector is not None])
    assert (rows * expected).sum(axis=1).min() > 0.9999
    # That all differ shows that order, pictures and instructions arrive.
    assert np.triu(expected @ expected.T, 1).max() < 0.9999


def test_a_mark_in_a_text_fails_alone(chats: Path) -> None:
    encoder = load_encoder(f"st:{chats}", device="cpu")
    contents = [Content.of("a <|image_pad|>", noise(60, 60)), Content.of("b", noise(60, 60)), Content.of("c")]
    found = list(encoder.stream(EncodeRequest(content) for content in contents))
    assert [encoded.error is None for encoded in found] == [False, True, True]
