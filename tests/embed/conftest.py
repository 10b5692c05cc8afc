from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from tokenizers import Tokenizer

from mmseek import EncodeRequest, Image
from mmseek.embed.mini.encoder import MiniEncoder
from mmseek.embed.mini.pictures import PictureTower
from mmseek.embed.mini.text import TextTower
from mmseek.embed.mini.weights import find_text_model
from mmseek.training.tiny import byte_tokenizer, tiny_qwen_vl
from mmseek.training.tiny_families import tiny_mme5

SIZE = 8


@pytest.fixture(scope="session")
def model_folder() -> Path:
    return find_text_model()


@pytest.fixture(scope="session")
def text_tower(model_folder: Path) -> TextTower:
    return TextTower(model_folder)


@pytest.fixture(scope="session")
def picture_tower() -> PictureTower:
    """Random and tiny: a linear map of 8 x 8 pixels."""
    weights = torch.randn(SIZE * SIZE * 3, 384, generator=torch.Generator().manual_seed(0))

    def tower(pictures: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.normalize(pictures.flatten(1).float() @ weights, dim=1)

    def preprocess(picture: PIL.Image.Image) -> np.ndarray:
        assert picture.mode == "RGB"
        return np.asarray(picture.resize((SIZE, SIZE)))

    return PictureTower(tower, preprocess, size=SIZE)


@pytest.fixture
def mini(text_tower: TextTower, picture_tower: PictureTower) -> MiniEncoder:
    return MiniEncoder(text_tower, lambda: picture_tower, fingerprint="0" * 64)


@pytest.fixture(scope="session")
def picture() -> Callable[[int], Image]:
    """A picture of coloured noise that its number gives."""

    def make(number: int) -> Image:
        pixels = np.random.default_rng(number).integers(0, 255, (30, 40, 3), dtype=np.uint8)
        buffer = io.BytesIO()
        PIL.Image.fromarray(pixels).save(buffer, "PNG")
        return Image(data=buffer.getvalue())

    return make


@pytest.fixture(scope="session")
def vectors() -> Callable[[Any, Sequence[EncodeRequest]], np.ndarray]:
    """What an encoder makes of requests, (n, dim), none of which may fail."""

    def encoded(encoder: Any, requests: Sequence[EncodeRequest]) -> np.ndarray:
        rows = []
        for one in encoder.stream(requests):
            assert one.vector is not None, one.error
            rows.append(one.vector)
        return np.stack(rows)

    return encoded


MEAN, STD = [0.5, 0.4, 0.3], [0.2, 0.3, 0.4]
LLAVA_GRIDS = [[28, 56], [56, 28], [56, 56]]


def redrawn(model: torch.nn.Module, seed: int = 0) -> None:
    """Random weights of std 0.2: the usual start is so small that pictures and positions would hardly matter."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(1 if weight.ndim == 1 and weight.numel() > 1 else 0.5, 0.2, generator=generator)
            if weight.ndim > 1:
                weight -= 0.5


@pytest.fixture(scope="session")
def tiny_vlm(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a tiny random checkpoint of a kind, made when it is first asked for."""
    makers: dict[str, Callable[[Path], None]] = {
        **{kind: partial(_qwen, kind=kind) for kind in ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")},
        "jina_v4": _jina_v4,
        "llava_next": _llava_next,
        "mllama": _mllama,
        "notellm2": _notellm2,
        "phi3_v": _phi3_v,
    }
    made: dict[str, Path] = {}

    def make(kind: str) -> Path:
        if kind not in made:
            made[kind] = tmp_path_factory.mktemp(kind)
            makers[kind](made[kind])
            pictures = {"image_mean": MEAN, "image_std": STD, **({"num_crops": 4} if kind == "phi3_v" else {})}
            (made[kind] / "preprocessor_config.json").write_text(json.dumps(pictures))
        return made[kind]

    return make


@pytest.fixture(scope="session")
def llava_processor() -> Callable[[Path], Any]:
    """transformers' own processor of the tiny LLaVA-NeXT; texts are padded on the left as in the originals."""
    return _llava_processor


def _llava_processor(folder: Path) -> Any:
    from transformers import LlavaNextProcessor, PreTrainedTokenizerFast
    from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil

    fast = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_file(str(folder / "tokenizer.json")),
        pad_token="</s>",
        padding_side="left",
        extra_special_tokens={"image_token": "<image>"},
    )
    images = LlavaNextImageProcessorPil(
        size={"shortest_edge": 28},
        crop_size={"height": 28, "width": 28},
        image_mean=MEAN,
        image_std=STD,
        image_grid_pinpoints=LLAVA_GRIDS,
    )
    return LlavaNextProcessor(
        images, fast, patch_size=14, vision_feature_select_strategy="default", num_additional_image_tokens=1
    )


def _llava_next(folder: Path) -> None:
    """LLaVA-NeXT on Mistral: `<s>` before every text."""
    from transformers import LlavaNextConfig, LlavaNextForConditionalGeneration

    tokenizer = byte_tokenizer("<s>", "</s>", "<image>", before="<s>")
    text = {"model_type": "mistral", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    vision = {"model_type": "clip_vision_model", "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3}
    config = LlavaNextConfig(
        text_config={
            **text,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "vocab_size": 264,
            "max_position_embeddings": 400,
            "sliding_window": None,
        },
        vision_config={**vision, "num_attention_heads": 2, "image_size": 28, "patch_size": 14},
        image_token_index=tokenizer.token_to_id("<image>"),
        image_grid_pinpoints=LLAVA_GRIDS,
    )
    model = LlavaNextForConditionalGeneration(config)
    redrawn(model)
    model.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))


def _mllama(folder: Path) -> None:
    """Llama 3.2 Vision: `<|begin_of_text|>` before every text, and gates that are open."""
    tiny_mme5(folder)


def _qwen(folder: Path, kind: str) -> None:
    """Qwen2-VL, Qwen2.5-VL or Qwen3-VL."""
    tiny_qwen_vl(folder, kind, key_heads=1)


def _jina_v4(folder: Path) -> None:
    """Qwen2.5-VL with an adapter for each of two tasks, in the published naming."""
    from safetensors.torch import load_file, save_file

    _qwen(folder, "qwen2_5_vl")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "architectures": ["JinaEmbeddingsV4Model"]}))
    generator = torch.Generator().manual_seed(1)
    adapters = {"base_model.model.multi_vector_projector.lora_A.retrieval.weight": torch.zeros(1, 1)}
    for name, weight in load_file(folder / "model.safetensors").items():
        if name.startswith("language_model.layers.") and weight.ndim == 2:
            for task in ("retrieval", "text-matching"):
                stem = f"base_model.model.model.{name.removesuffix('.weight')}"
                adapters[f"{stem}.lora_A.{task}.weight"] = torch.randn(4, weight.shape[1], generator=generator) / 5
                adapters[f"{stem}.lora_B.{task}.weight"] = torch.randn(len(weight), 4, generator=generator) / 5
    (folder / "adapters").mkdir()
    save_file(adapters, folder / "adapters" / "adapter_model.safetensors")
    (folder / "adapters" / "adapter_config.json").write_text('{"r": 4, "lora_alpha": 2}')


def _notellm2(folder: Path) -> None:
    """A Llama, a CLIP and a Q-Former, saved under the names of NoteLLM-2's training code."""
    from safetensors.torch import save_file
    from transformers import (
        Blip2QFormerConfig,
        Blip2QFormerModel,
        CLIPVisionConfig,
        CLIPVisionModel,
        LlamaConfig,
        LlamaModel,
    )

    tokenizer = byte_tokenizer("<s>", "</s>", "<IMG>", "<IMG_EMB>", before="<s>")
    language = LlamaConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        vocab_size=264,
        max_position_embeddings=700,
        architectures=["MLlama"],
    )
    sizes = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    vision = CLIPVisionConfig(hidden_size=16, image_size=28, patch_size=14, **sizes)
    qformer = Blip2QFormerConfig(hidden_size=20, encoder_hidden_size=16, **sizes)
    parts = {
        "model.": LlamaModel(language),
        "vision_tower.vision_tower.vision_model.": CLIPVisionModel(vision),
        "qformer.": Blip2QFormerModel(qformer),
        "mm_projector.": torch.nn.Linear(20, 32),
        "mm_projector_latefusion.": torch.nn.Linear(16, 32, bias=False),
        "gate.trans_all.": torch.nn.Linear(64, 32, bias=False),
        "linear.": torch.nn.Linear(32, 12, bias=False),
    }
    weights = {"query_tokens": torch.randn(1, 3, 20, generator=torch.Generator().manual_seed(9))}
    for seed, (name, module) in enumerate(parts.items()):
        redrawn(module, seed)
        weights |= {f"{name}{key}": value for key, value in module.state_dict().items()}
    save_file(weights, folder / "model.safetensors")
    numbers = ("hidden_size", "image_size", "patch_size", *sizes)
    config = {
        **language.to_dict(),
        "vision_config": {key: getattr(vision, key) for key in numbers},
        "qformer_config": {"hidden_size": 20, **sizes},
    }
    (folder / "config.json").write_text(json.dumps(config))
    tokenizer.save(str(folder / "tokenizer.json"))


def _phi3_v(folder: Path) -> None:
    """Phi-3.5-V: a CLIP of one head, and positions that turn otherwise above 120 tokens."""
    from safetensors.torch import save_file
    from transformers import CLIPVisionConfig, CLIPVisionModel, Phi3Config, Phi3Model

    language = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 264,
        "max_position_embeddings": 600,
        "original_max_position_embeddings": 120,
        "rope_scaling": {"type": "su", "short_factor": [1.0, 1.1, 1.2, 1.3], "long_factor": [1.5, 2.0, 3.0, 4.0]},
        "pad_token_id": 257,
        "eos_token_id": 257,
    }
    vision = CLIPVisionConfig(
        hidden_size=64, image_size=28, patch_size=7, num_hidden_layers=3, num_attention_heads=1, intermediate_size=24
    )
    eyes = "model.vision_embed_tokens."
    parts = {
        "model.": Phi3Model(Phi3Config(**{**language, "rope_scaling": None})),
        f"{eyes}img_processor.vision_model.": CLIPVisionModel(vision),
        f"{eyes}img_projection.0.": torch.nn.Linear(256, 32),
        f"{eyes}img_projection.2.": torch.nn.Linear(32, 32),
    }
    generator = torch.Generator().manual_seed(9)
    weights = {
        f"{eyes}glb_GN": torch.randn(1, 1, 256, generator=generator),
        f"{eyes}sub_GN": torch.randn(1, 1, 1, 256, generator=generator),
    }
    for seed, (name, module) in enumerate(parts.items()):
        redrawn(module, seed)
        weights |= {f"{name}{key}": value for key, value in module.state_dict().items()}
    save_file(weights, folder / "model.safetensors")
    layer = {"embedding_cls": "image", "use_hd_transform": True, "hd_transform_order": "sub_glb"}
    config = {
        **language,
        "model_type": "phi3_v",
        "_attn_implementation": "flash_attention_2",
        "auto_map": {"AutoModelForCausalLM": "modeling_phi3_v.Phi3VForCausalLM"},
        "embd_layer": {**layer, "projection_cls": "mlp", "with_learnable_separator": True},
        "img_processor": {"name": "clip_vision_model", "layer_idx": -2},
    }
    (folder / "config.json").write_text(json.dumps(config))
    byte_tokenizer("<s>", "<|endoftext|>", before="<s>").save(str(folder / "tokenizer.json"))
