from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import PIL.Image
import pytest

from mmseek._types import Image
from mmseek.testing import noise_picture

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


MARKS = [
    "<s>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<image>",
    "<img>",
    "</img>",
    "<IMG_CONTEXT>",
]
ANSWERS = ["Yes", "No", "True", "False", "yes", "no"]
_TEXT: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "vocab_size": 256 + len(MARKS) + len(ANSWERS),
    "max_position_embeddings": 4096,
}
_CLIP = {
    "model_type": "clip_vision_model",
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}


def _tokenizer() -> Any:
    """A token a byte, the marks, and the answers; `<s>` comes before every text that asks for special tokens."""
    from mmseek.training.tiny import byte_tokenizer

    tokenizer = byte_tokenizer(*MARKS, before="<s>")
    tokenizer.add_tokens(ANSWERS)
    return tokenizer


def _qwen(kind: str, tokenizer: Any, tied: bool) -> Any:
    import transformers

    from mmseek.training.tiny import qwen_vl_config

    model = {
        "qwen2_vl": transformers.Qwen2VLForConditionalGeneration,
        "qwen2_5_vl": transformers.Qwen2_5_VLForConditionalGeneration,
        "qwen3_vl": transformers.Qwen3VLForConditionalGeneration,
    }[kind]
    return model(qwen_vl_config(kind, tokenizer, key_heads=1, tie_word_embeddings=tied, max_position_embeddings=4096))


def _fixed(kind: str, number: Callable[[str], int]) -> Any:
    import transformers

    if kind == "llava":
        config = transformers.LlavaConfig(
            text_config={**_TEXT, "model_type": "llama"}, vision_config=_CLIP, image_token_index=number("<image>")
        )
        return transformers.LlavaForConditionalGeneration(config)
    if kind == "llava_next":
        next_config = transformers.LlavaNextConfig(
            text_config={**_TEXT, "model_type": "mistral", "sliding_window": None},
            vision_config=_CLIP,
            image_token_index=number("<image>"),
            image_grid_pinpoints=[[28, 56], [56, 28], [56, 56]],
        )
        return transformers.LlavaNextForConditionalGeneration(next_config)
    vision = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    intern_config = transformers.InternVLConfig(
        text_config={**_TEXT, "model_type": "qwen2"},
        vision_config={**vision, "image_size": [28, 28], "patch_size": [7, 7]},
        image_token_id=number("<IMG_CONTEXT>"),
        image_seq_length=4,
    )
    return transformers.InternVLForConditionalGeneration(intern_config)


@pytest.fixture(scope="session")
def tiny_vlm(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Write a tiny random vision-language model; weights with a deviation of 0.2, or pictures would hardly matter."""
    made: dict[tuple[str, bool], Path] = {}

    def make(kind: str, *, tied: bool = True) -> Path:
        import torch

        if (kind, tied) in made:
            return made[kind, tied]
        folder = tmp_path_factory.mktemp(kind)
        tokenizer = _tokenizer()
        torch.manual_seed(0)
        model = _qwen(kind, tokenizer, tied) if "qwen" in kind else _fixed(kind, tokenizer.token_to_id)
        with torch.no_grad():
            for weight in model.parameters():
                weight.normal_(1 if weight.ndim == 1 else 0, 0.2)
        model.save_pretrained(folder)
        tokenizer.save(str(folder / "tokenizer.json"))
        settings = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4]}
        pixels = {"min_pixels": 3136, "max_pixels": 12544} if "qwen" in kind else {}
        (folder / "preprocessor_config.json").write_text(json.dumps(settings | pixels))
        made[kind, tied] = folder
        return folder

    return make


@pytest.fixture(scope="session")
def draw() -> Callable[[int, int], Image]:
    return noise_picture


@pytest.fixture(scope="session")
def plain_logits() -> Callable[..., Any]:
    """Logits (vocabulary,) after a prompt, by transformers' own picture processors and a whole forward pass.

    The prompt has one mark of its family for each picture.
    """
    return _plain_logits


def _plain_logits(folder: Path, prompt: str, images: Sequence[Image], *, pixels: tuple[int, int] | None = None) -> Any:
    import torch
    import transformers
    from tokenizers import Tokenizer

    kind = json.loads((folder / "config.json").read_text())["model_type"]
    opened = [PIL.Image.open(io.BytesIO(image.data or b"")).convert("RGB") for image in images]
    model = transformers.AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    inputs, counts = _plain_pictures(kind, model, opened, pixels) if opened else ({}, [])
    mark = {"internvl": "<IMG_CONTEXT>"}.get(kind, "<|image_pad|>" if "qwen" in kind else "<image>")
    for count in counts:
        prompt = prompt.replace(mark, "<placeholder>" * count, 1)
    ids = Tokenizer.from_file(str(folder / "tokenizer.json")).encode(
        prompt.replace("<placeholder>", mark), add_special_tokens=kind.startswith("llava")
    )
    numbers = torch.tensor([ids.ids])
    if "qwen" in kind:
        inputs["mm_token_type_ids"] = (numbers == model.config.image_token_id).int()
    with torch.no_grad():
        out = model(input_ids=numbers, **inputs, output_hidden_states=True)
    return out.logits[0, -1]


def _plain_pictures(
    kind: str, model: Any, opened: Sequence[PIL.Image.Image], pixels: tuple[int, int] | None
) -> tuple[dict[str, Any], list[int]]:
    """The inputs of the vision tower, and how many tokens each picture has."""
    colours: dict[str, Any] = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4]}
    size = {"size": {"shortest_edge": 28}, "crop_size": {"height": 28, "width": 28}}
    if "qwen" in kind:
        from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

        low, high = pixels or (3136, 12544)
        patch = model.config.vision_config.patch_size
        qwen = Qwen2VLImageProcessorPil(patch_size=patch, size={"shortest_edge": low, "longest_edge": high}, **colours)
        inputs = dict(qwen(images=list(opened), return_tensors="pt"))
        return inputs, [int(grid.prod()) // 4 for grid in inputs["image_grid_thw"]]
    if kind == "llava":
        from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

        llava = LlavaImageProcessorPil(do_pad=True, **size, **colours)
        return dict(llava(images=list(opened), return_tensors="pt")), [4] * len(opened)
    if kind == "llava_next":
        from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil

        grids = [list(pair) for pair in model.config.image_grid_pinpoints]
        following = LlavaNextImageProcessorPil(image_grid_pinpoints=grids, **size, **colours)
        inputs = dict(following(images=list(opened), return_tensors="pt"))
        seen = model.model.get_image_features(inputs["pixel_values"], inputs["image_sizes"], return_dict=True)
        return inputs, [len(states) for states in seen.pooler_output]
    from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil

    square = {"height": 28, "width": 28}
    intern = GotOcr2ImageProcessorPil(size=square, crop_to_patches=True, min_patches=1, max_patches=12, **colours)
    given = intern(images=list(opened), return_tensors="pt")
    return {"pixel_values": given["pixel_values"]}, [4 * int(n) for n in given["num_patches"]]
