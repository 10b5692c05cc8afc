"""The `mm-embed` encoder on a random checkpoint made here, against one item at a time, written out."""

import io
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Tokenizer, pre_tokenizers
from tokenizers.models import BPE
from torch.nn import functional
from transformers import CLIPVisionConfig, CLIPVisionModel, LlavaNextConfig, LlavaNextModel, MistralConfig
from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil

from mmseek import Content, EncodeRequest, Image, load_encoder
from mmseek.embed.latent_attention import LatentAttention
from mmseek.embed.mm_embed import MmEmbedEncoder, render
from mmseek.errors import InputError, ModelError
from mmseek.testing import noise_picture as picture

Vectors = Callable[[Any, Sequence[EncodeRequest]], np.ndarray]

LETTERS = sorted(pre_tokenizers.ByteLevel.alphabet())
BEGIN, END, PICTURE, PAD = 256, 257, 258, 259  # the last two have no rows in the model, as in the published one
DIM, HEADS, SIDE, PATCHES = 32, 2, 28, 4
MEAN, STD = [0.5, 0.4, 0.3], [0.2, 0.3, 0.4]
# The language model's, by the NV-Embed that the checkpoint names; the checkpoint's own numbers are others.
LANGUAGE: dict[str, Any] = {
    "hidden_size": DIM,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "vocab_size": 258,
    "bos_token_id": BEGIN,
    "eos_token_id": END,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
}
VISION: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": SIDE,
    "patch_size": 14,
}


def tokenizer() -> Tokenizer:
    """A token a byte, and the marks."""
    made = Tokenizer(BPE({letter: number for number, letter in enumerate(LETTERS)}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.add_special_tokens([AddedToken(mark, special=True) for mark in ("<s>", "</s>", "<image>", "<pad>")])
    return made


def random_(module: torch.nn.Module) -> None:
    with torch.no_grad():
        for weight in module.parameters():
            weight.normal_(1 if weight.ndim == 1 else 0, 0.2)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In the layout of the published checkpoint."""
    made = tmp_path_factory.mktemp("mm_embed")
    torch.manual_seed(0)
    config = LlavaNextConfig(
        text_config={**LANGUAGE, "model_type": "mistral"},
        vision_config={**VISION, "model_type": "clip_vision_model"},
        image_token_index=PICTURE,
    )
    llava, pooling = LlavaNextModel(config), LatentAttention(DIM, latents=6, heads=HEADS, head_dim=DIM, inner=4 * DIM)
    random_(llava)
    random_(pooling)
    weights = {
        name.replace("vision_tower.", "vision_tower.vision_model."): value for name, value in llava.state_dict().items()
    }
    weights |= {f"latent_attention_model.{name}": value for name, value in pooling.state_dict().items()}
    save_file({name: value.contiguous() for name, value in weights.items()}, made / "model.safetensors")
    own = {
        "model_type": "llava_next",
        "image_token_index": PICTURE,
        "retriever": "retriever",
        "text_config": {"model_type": "mistral", "rope_theta": 1e6, "vocab_size": 300},
        "vision_config": {**VISION, "model_type": "clip_vision_model"},
    }
    (made / "config.json").write_text(json.dumps(own))
    (made / "retriever").mkdir()
    retriever = {
        "model_type": "nvembed",
        "text_config": {**LANGUAGE, "model_type": "bidir_mistral"},
        "latent_attention_config": {"num_cross_heads": HEADS},
    }
    (made / "retriever" / "config.json").write_text(json.dumps(retriever))
    tokenizer().save(str(made / "tokenizer.json"))
    (made / "preprocessor_config.json").write_text(json.dumps({"image_mean": MEAN, "image_std": STD}))
    return made


@pytest.fixture(scope="session")
def encoder(folder: Path) -> MmEmbedEncoder:
    return load(folder)


def load(place: Path) -> MmEmbedEncoder:
    made = load_encoder(f"mm-embed:{place}", device="cpu")
    assert isinstance(made, MmEmbedEncoder)
    return made


REQUESTS = [
    EncodeRequest(Content.of("A cat and a dog"), "query", "Find it."),
    EncodeRequest(Content.of(picture(90, 60))),
    EncodeRequest(Content.of(picture(60, 120), "which colour is it?"), "query", "Find a picture that answers."),
    EncodeRequest(Content.of(picture(40, 40), "which colour is it?"), "query"),
    EncodeRequest(Content.of("a longer text, of more tokens than there are in the others, and then some more of it")),
    EncodeRequest(Content.of(picture(50, 20), "a caption\nQuery: and what looks like a query")),
    EncodeRequest(Content.of(picture(50, 20), picture(20, 50), "two of them")),
    EncodeRequest(Content.of("one", picture(30, 30), "two", picture(20, 30), "three"), "query", "In order:"),
    EncodeRequest(Content.of("one", picture(30, 30))),
]
PROMPTS = [
    "Instruct: Find it.\nQuery: A cat and a dog",
    "<image>\n",
    "Instruct: Find a picture that answers.\nQuery: <image>\nwhich colour is it?",
    "Query: <image>\nwhich colour is it?",
    "a longer text, of more tokens than there are in the others, and then some more of it",
    "<image>\na caption\nQuery: and what looks like a query",
    "<image>\n<image>\ntwo of them",
    "Instruct: In order:\nQuery: one\n<image>\ntwo\n<image>\nthree",
    "one\n<image>\n",
]


def states_of_picture(weights: dict[str, torch.Tensor], image: Image) -> torch.Tensor:
    """The global patch of transformers' own preprocessing, through its CLIP, projected; and the line's end."""
    tower = CLIPVisionModel(CLIPVisionConfig(**VISION)).eval()
    prefix = "vision_tower.vision_model."
    tower.load_state_dict(
        {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
    )
    processor = LlavaNextImageProcessorPil(
        size={"shortest_edge": SIDE},
        crop_size={"height": SIDE, "width": SIDE},
        image_mean=MEAN,
        image_std=STD,
        image_grid_pinpoints=[[SIDE, 2 * SIDE], [2 * SIDE, SIDE]],
    )
    opened = PIL.Image.open(io.BytesIO(image.data or b""))
    pixels = torch.as_tensor(processor(images=[opened], return_tensors="pt")["pixel_values"])[:, 0].float()
    seen = tower(pixels, output_hidden_states=True).hidden_states[-2][0, 1:]
    for number in (1, 2):
        name = f"multi_modal_projector.linear_{number}"
        seen = seen @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]
        seen = functional.gelu(seen) if number == 1 else seen
    return torch.cat([seen, weights["image_newline"][None]])


def language_model(weights: dict[str, torch.Tensor], states: torch.Tensor, *, causal: bool) -> torch.Tensor:
    """Mistral, written out with the whole attention matrix of one sequence (length, DIM)."""
    config = MistralConfig(**LANGUAGE)
    heads, groups, size = config.num_attention_heads, config.num_key_value_heads, LANGUAGE["head_dim"]
    length = len(states)
    angles = torch.arange(length)[:, None] / 10000.0 ** (torch.arange(0, size, 2) / size)
    angles = torch.cat([angles, angles], -1)
    allowed = torch.ones(length, length, dtype=torch.bool)
    mask = torch.zeros(length, length).masked_fill(~(allowed.tril() if causal else allowed), float("-inf"))

    def norm(values: torch.Tensor, name: str) -> torch.Tensor:
        scaled = values / (values.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt()
        return scaled * weights[f"language_model.{name}.weight"]

    def turned(values: torch.Tensor) -> torch.Tensor:
        first, second = values.chunk(2, -1)
        return values * angles.cos() + torch.cat([-second, first], -1) * angles.sin()

    for layer in range(LANGUAGE["num_hidden_layers"]):
        name = f"layers.{layer}"
        own = {k.removeprefix(f"language_model.{name}."): v for k, v in weights.items() if f"{name}." in k}
        normed = norm(states, f"{name}.input_layernorm")
        asked, keys, values = (normed @ own[f"self_attn.{part}_proj.weight"].T for part in "qkv")
        out = []
        for head in range(heads):
            group = head // (heads // groups)
            mine, theirs = slice(head * size, (head + 1) * size), slice(group * size, (group + 1) * size)
            scores = turned(asked[:, mine]) @ turned(keys[:, theirs]).T / size**0.5 + mask
            out.append(scores.softmax(-1) @ values[:, theirs])
        states = states + torch.cat(out, -1) @ own["self_attn.o_proj.weight"].T
        normed = norm(states, f"{name}.post_attention_layernorm")
        gate = functional.silu(normed @ own["mlp.gate_proj.weight"].T) * (normed @ own["mlp.up_proj.weight"].T)
        states = states + gate @ own["mlp.down_proj.weight"].T
    return norm(states, "norm")


def written_out(
    folder: Path, prompt: str, images: Sequence[Image], *, causal: bool = False, pool_all: bool = False
) -> np.ndarray:
    """One item, without padding."""
    weights = load_file(folder / "model.safetensors")
    marks = tokenizer()
    with torch.no_grad():
        rows = []
        pending = list(images)
        for number in [BEGIN, *marks.encode(prompt).ids, END]:
            if number == PICTURE:
                rows.append(
                    states_of_picture({k: v for k, v in weights.items() if "language" not in k}, pending.pop(0))
                )
            else:
                rows.append(weights["language_model.embed_tokens.weight"][END if number == PAD else number][None])
        states = language_model(
            {k: v for k, v in weights.items() if k.startswith("language_model.")}, torch.cat(rows), causal=causal
        )
        pooling = LatentAttention(DIM, latents=6, heads=HEADS, head_dim=DIM, inner=4 * DIM)
        prefix = "latent_attention_model."
        pooling.load_state_dict({k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)})
        counted = torch.ones(1, len(states))
        if "\nQuery: " in prompt and not pool_all:
            before = prompt.split("\nQuery: ")[0]
            length = len(marks.encode(before).ids) + 2
            counted[:, : length + (PATCHES - 1 if "<image>" in before else 0)] = 0
        vector: np.ndarray = pooling(states[None], counted)[0].numpy()
    return vector


def all_written_out(folder: Path, **options: bool) -> np.ndarray:
    both = zip(REQUESTS, PROMPTS, strict=True)
    return np.stack([written_out(folder, prompt, request.content.images, **options) for request, prompt in both])


def test_prompts() -> None:
    assert [render(request) for request in REQUESTS] == PROMPTS


def test_equal_to_one_item_at_a_time_written_out(encoder: MmEmbedEncoder, folder: Path, vectors: Vectors) -> None:
    np.testing.assert_allclose(vectors(encoder, REQUESTS), all_written_out(folder), atol=1e-5)


def test_looking_back_only_is_seen(encoder: MmEmbedEncoder, folder: Path, vectors: Vectors) -> None:
    differences = np.abs(vectors(encoder, REQUESTS) - all_written_out(folder, causal=True)).max(1)
    assert (differences > 0.01).all()


def test_pooling_the_instruction_is_seen(encoder: MmEmbedEncoder, folder: Path, vectors: Vectors) -> None:
    differences = np.abs(vectors(encoder, REQUESTS) - all_written_out(folder, pool_all=True)).max(1)
    with_instruction = np.array(["\nQuery: " in prompt for prompt in PROMPTS])
    assert (differences[with_instruction] > 0.01).all()
    assert (differences[~with_instruction] < 1e-5).all()


def test_batches_change_nothing(encoder: MmEmbedEncoder, vectors: Vectors) -> None:
    single = np.concatenate([vectors(encoder, [request]) for request in REQUESTS])
    assert np.abs(single @ single.T - np.eye(len(single))).max() < 0.999  # they are all different
    payloads = [encoder.prepare(request)[0].payload for request in REQUESTS]
    np.testing.assert_allclose(encoder.forward("sequence", payloads), single, atol=1e-5)
    order = [3, 0, 6, 1, 4, 2, 5, 0]
    np.testing.assert_allclose(vectors(encoder, [REQUESTS[n] for n in order]), single[order], atol=1e-5)


def test_what_is_looked_up(encoder: MmEmbedEncoder) -> None:
    payload = encoder.prepare(EncodeRequest(Content.of(picture(9, 9), "a<pad>"), "query", "b"))[0].payload
    letters = {letter: number for number, letter in enumerate(LETTERS)}
    text = [letters[letter] for letter in "Instruct:ĠbĊQuery:Ġ"]
    expected = [BEGIN, *text, *[0] * (PATCHES + 1), letters["Ċ"], letters["a"], END, END]
    assert payload.tokens.tolist() == expected
    assert np.flatnonzero(payload.is_picture).tolist() == [20, 21, 22, 23, 24]
    assert payload.left_out == 1 + len("Instruct: b") + 1  # the mark of the beginning, and the line break


def test_a_picture_before_what_looks_like_a_query_counts_as_its_patches(encoder: MmEmbedEncoder) -> None:
    assert encoder._checkpoint.reader.left_out("<image>\nab\nQuery: c") == 1 + PATCHES + len("\nab") + 1
    assert encoder._checkpoint.reader.left_out("Query: c") == 0


def test_long_texts_are_cut_before_the_last_mark(encoder: MmEmbedEncoder) -> None:
    payload = encoder.prepare(EncodeRequest(Content.of(picture(9, 9), "a" * 600)))[0].payload
    assert len(payload.tokens) == 512 + PATCHES
    assert payload.tokens[-1] == END


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (EncodeRequest(Content.of("")), "neither text nor image"),
        (EncodeRequest(Content.of("an <image> here")), "take it out"),
        (EncodeRequest(Content.of("a"), "query", "b" * 600), "shorten"),
        (EncodeRequest(Content.of(picture(9, 9)), "query", "b" * 600), "shorten"),
    ],
)
def test_what_is_refused_fails_alone(encoder: MmEmbedEncoder, request_: EncodeRequest, words: str) -> None:
    first, second = encoder.stream([request_, REQUESTS[0]])
    assert isinstance(first.error, InputError)
    assert words in str(first.error)
    assert second.vector is not None


def test_other_namings_of_the_weights(encoder: MmEmbedEncoder, folder: Path, tmp_path: Path, vectors: Vectors) -> None:
    """As transformers 4 wrote a LLaVA-NeXT, and as 5 does; sharded or not is one to the loader."""
    place = shutil.copytree(folder, tmp_path / "copy")
    weights = load_file(folder / "model.safetensors")
    old = {name.replace("language_model.", "language_model.model.", 1): value for name, value in weights.items()}
    new = {f"model.{name.replace('vision_model.', '')}": value for name, value in weights.items()}
    expected = vectors(encoder, REQUESTS[:3])
    for renamed in (old | {"language_model.lm_head.weight": torch.zeros(1)}, new):
        save_file(renamed, place / "model.safetensors")
        np.testing.assert_allclose(vectors(load(place), REQUESTS[:3]), expected, atol=1e-6)


def test_without_a_retriever_the_numbers_are_the_checkpoints_own(
    encoder: MmEmbedEncoder, folder: Path, tmp_path: Path, vectors: Vectors
) -> None:
    place = shutil.copytree(folder, tmp_path / "copy")
    own = json.loads((place / "config.json").read_text()) | json.loads((place / "retriever/config.json").read_text())
    del own["retriever"]
    (place / "config.json").write_text(json.dumps(own | {"model_type": "llava_next"}))
    np.testing.assert_array_equal(vectors(load(place), REQUESTS[:1]), vectors(encoder, REQUESTS[:1]))


def test_broken_checkpoints(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = shutil.copytree(folder, tmp_path / "copy")
    weights = load_file(folder / "model.safetensors")
    for left_out in ("latent_attention_model.latents", "language_model.norm.weight"):
        save_file({name: value for name, value in weights.items() if name != left_out}, place / "model.safetensors")
        with pytest.raises(ModelError, match="get it again"):
            load(place)
    monkeypatch.setenv("MMSEEK_OFFLINE", "1")
    shutil.rmtree(place / "retriever")
    with pytest.raises(ModelError, match=r"put that model.s config\.json into"):
        load(place)
    (place / "config.json").write_text('{"model_type": "llava"}')
    with pytest.raises(ModelError, match="use another family"):
        load(place)


def test_the_fingerprint_covers_the_language_models_numbers(
    encoder: MmEmbedEncoder, folder: Path, tmp_path: Path, vectors: Vectors
) -> None:
    place = shutil.copytree(folder, tmp_path / "copy")
    assert load(place).identity.fingerprint == encoder.identity.fingerprint
    retriever = json.loads((place / "retriever/config.json").read_text())
    retriever["text_config"]["rope_theta"] = 500.0
    (place / "retriever/config.json").write_text(json.dumps(retriever))
    changed = load(place)
    assert changed.identity.fingerprint != encoder.identity.fingerprint
    assert np.abs(vectors(changed, REQUESTS[:1]) - vectors(encoder, REQUESTS[:1])).max() > 1e-3
