"""`clip` and `uniir-clip-sf` on a tiny random CLIP, against a plain forward pass under OpenAI's names."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from safetensors.torch import save_file
from tokenizers.pre_tokenizers import ByteLevel
from torch.nn import functional as F  # noqa: N812

from mmseek import Content, EncodeRequest, Image, load_encoder
from mmseek.embed.clip import ClipEncoder
from mmseek.embed.clip_encoder import IMAGE, TEXT, ClipTowerEncoder
from mmseek.embed.clip_layout import config_of, converted
from mmseek.embed.engine import EngineOptions
from mmseek.embed.uniir_clip import UniirClipEncoder
from mmseek.errors import InputError, ModelError, SpecError

WIDTH, DIM, SIDE, PATCH, LENGTH, LAYERS = 64, 48, 32, 16, 77, 2
MERGES = ["t h", "th e</w>", "c a", "ca t</w>", "d o", "do g</w>", "p l", "a y</w>"]
INSTRUCTION = "find a picture of it"
Weights = dict[str, torch.Tensor]


def original_weights(vocabulary: int) -> Weights:
    """Drawn with a standard deviation of 0.2, so that a wrong step shows."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator) * 0.2

    weights = {
        "positional_embedding": draw(LENGTH, WIDTH),
        "token_embedding.weight": draw(vocabulary, WIDTH),
        "text_projection": draw(WIDTH, DIM),
        "logit_scale": torch.tensor(2.6592),
        "visual.class_embedding": draw(WIDTH),
        "visual.conv1.weight": draw(WIDTH, 3, PATCH, PATCH),
        "visual.positional_embedding": draw((SIDE // PATCH) ** 2 + 1, WIDTH),
        "visual.proj": draw(WIDTH, DIM),
    }
    norms = ["ln_final", "visual.ln_pre", "visual.ln_post"]
    for stack in ("transformer", "visual.transformer"):
        for layer in range(LAYERS):
            block = f"{stack}.resblocks.{layer}"
            norms += [f"{block}.ln_1", f"{block}.ln_2"]
            shapes = {"mlp.c_fc": (4 * WIDTH, WIDTH), "mlp.c_proj": (WIDTH, 4 * WIDTH), "attn.out_proj": (WIDTH, WIDTH)}
            for part, shape in shapes.items():
                weights |= {f"{block}.{part}.weight": draw(*shape), f"{block}.{part}.bias": draw(shape[0])}
            weights[f"{block}.attn.in_proj_weight"] = draw(3 * WIDTH, WIDTH)
            weights[f"{block}.attn.in_proj_bias"] = draw(3 * WIDTH)
    for norm in norms:
        weights |= {f"{norm}.weight": 1 + draw(WIDTH), f"{norm}.bias": draw(WIDTH)}
    return weights


def plain_norm(weights: Weights, name: str, states: torch.Tensor) -> torch.Tensor:
    return F.layer_norm(states, (WIDTH,), weights[f"{name}.weight"], weights[f"{name}.bias"])


def plain_stack(weights: Weights, stack: str, states: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    for layer in range(LAYERS):
        own = {k.removeprefix(f"{stack}.resblocks.{layer}."): v for k, v in weights.items() if k.startswith(stack)}
        attention = torch.nn.MultiheadAttention(WIDTH, WIDTH // 64, batch_first=True)
        attention.load_state_dict({k.removeprefix("attn."): v for k, v in own.items() if k.startswith("attn.")})
        x = plain_norm(own, "ln_1", states)
        states = states + attention(x, x, x, need_weights=False, attn_mask=mask)[0]
        x = F.linear(plain_norm(own, "ln_2", states), own["mlp.c_fc.weight"], own["mlp.c_fc.bias"])
        states = states + F.linear(x * torch.sigmoid(1.702 * x), own["mlp.c_proj.weight"], own["mlp.c_proj.bias"])
    return states


@torch.inference_mode()
def plain_text(weights: Weights, numbers: list[int]) -> np.ndarray:
    """One text, always padded with 0 to 77 and read at its end mark."""
    padded = torch.tensor([numbers + [0] * (LENGTH - len(numbers))])
    mask = torch.full((LENGTH, LENGTH), float("-inf")).triu(1)
    states = weights["token_embedding.weight"][padded] + weights["positional_embedding"]
    states = plain_norm(weights, "ln_final", plain_stack(weights, "transformer", states, mask))
    return np.asarray(states[0, padded[0].argmax()] @ weights["text_projection"])


@torch.inference_mode()
def plain_image(weights: Weights, pixels: np.ndarray) -> np.ndarray:
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(3, 1, 1)
    std = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(3, 1, 1)
    picture = (torch.from_numpy(pixels.copy()).permute(2, 0, 1) / 255 - mean) / std
    patches = F.conv2d(picture[None], weights["visual.conv1.weight"], stride=PATCH).flatten(2).transpose(1, 2)
    states = torch.cat([weights["visual.class_embedding"].view(1, 1, -1), patches], 1)
    states = plain_norm(weights, "visual.ln_pre", states + weights["visual.positional_embedding"])
    states = plain_stack(weights, "visual.transformer", states, None)
    return np.asarray(plain_norm(weights, "visual.ln_post", states[:, 0])[0] @ weights["visual.proj"])


@dataclass
class Tiny:
    weights: Weights
    original: Path
    """In UniIR's layout, with a tokenizer."""
    transformers: Path


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    from transformers import CLIPConfig, CLIPModel

    original, folder = tmp_path_factory.mktemp("original"), tmp_path_factory.mktemp("transformers")
    letters = sorted(ByteLevel.alphabet())
    pieces = [*letters, *(f"{letter}</w>" for letter in letters), *(merge.replace(" ", "") for merge in MERGES)]
    pieces += ["<|startoftext|>", "<|endoftext|>"]
    weights = original_weights(len(pieces))
    model = CLIPModel(CLIPConfig(**config_of(weights)))
    model.load_state_dict(converted(weights))
    model.save_pretrained(folder)
    for place in (original, folder):
        (place / "vocab.json").write_text(json.dumps({piece: number for number, piece in enumerate(pieces)}))
        (place / "merges.txt").write_text("\n".join(["#version: 0.2", *MERGES]))
    save_file({f"clip_model.{name}": tensor for name, tensor in weights.items()}, original / "clip_sf.safetensors")
    steps: dict[str, Any] = {"do_resize": True, "do_center_crop": True, "size": SIDE, "crop_size": SIDE}
    (folder / "preprocessor_config.json").write_text(json.dumps(steps))
    return Tiny(weights, original, folder)


@pytest.fixture(scope="module")
def uniir(tiny: Tiny) -> ClipTowerEncoder:
    encoder = load_encoder(f"uniir-clip-sf:{tiny.original}", device="cpu")
    assert isinstance(encoder, UniirClipEncoder)
    return encoder


@pytest.fixture(scope="module")
def clip(tiny: Tiny) -> ClipTowerEncoder:
    encoder = load_encoder(f"clip:{tiny.transformers}", device="cpu")
    assert isinstance(encoder, ClipEncoder)
    return encoder


@pytest.fixture
def requests(picture: Callable[[int], Image]) -> list[EncodeRequest]:
    long = "the cat and the dog play " * 40
    contents = [
        Content.of("the cat"),
        Content.of(picture(1)),
        Content.of(picture(2), "a dog"),
        Content.of(long),
        Content.of("Ein Vogel – 猫 🐱"),
        Content.of(picture(3), picture(4), "two of them"),
        Content.of("the cat"),
    ]
    queries = [EncodeRequest(content, "query", INSTRUCTION) for content in contents]
    return queries + [EncodeRequest(content) for content in contents]


def rows(encoder: ClipTowerEncoder, requests: list[EncodeRequest]) -> np.ndarray:
    def vectors() -> Iterator[np.ndarray]:
        for encoded in encoder.stream(requests):
            assert encoded.error is None, encoded.error
            assert encoded.vector is not None
            yield encoded.vector

    return np.stack(list(vectors()))


def parts(tiny: Tiny, encoder: ClipTowerEncoder, request: EncodeRequest) -> tuple[list[np.ndarray], list[np.ndarray]]:
    units = encoder.prepare(request)
    texts = [plain_text(tiny.weights, unit.payload) for unit in units if unit.kind == TEXT]
    return texts, [plain_image(tiny.weights, unit.payload) for unit in units if unit.kind == IMAGE]


def test_score_fusion_is_the_plain_one(tiny: Tiny, uniir: ClipTowerEncoder, requests: list[EncodeRequest]) -> None:
    for request, row in zip(requests, rows(uniir, requests), strict=True):
        texts, images = parts(tiny, uniir, request)
        total = sum(texts, np.zeros(DIM)) + (np.mean(images, axis=0) if images else 0)
        assert np.abs(row - total / np.linalg.norm(total)).max() < 1e-5


def test_clip_is_the_plain_one(tiny: Tiny, clip: ClipTowerEncoder, requests: list[EncodeRequest]) -> None:
    def unit(vector: np.ndarray) -> np.ndarray:
        return vector / np.linalg.norm(vector)

    for request, row in zip(requests, rows(clip, requests), strict=True):
        texts, images = parts(tiny, clip, request)
        total = sum(map(unit, texts), np.zeros(DIM))
        if images:
            total = total + unit(np.mean([unit(image) for image in images], axis=0))
        assert np.abs(row - unit(total)).max() < 1e-5


@pytest.mark.parametrize("family", ["clip", "uniir-clip-sf"])
def test_both_layouts_are_one_model(tiny: Tiny, family: str, requests: list[EncodeRequest]) -> None:
    original = rows(load_encoder(f"{family}:{tiny.original}", device="cpu"), requests)  # type: ignore[arg-type]
    transformers = rows(load_encoder(f"{family}:{tiny.transformers}", device="cpu"), requests)  # type: ignore[arg-type]
    assert np.abs(original - transformers).max() < 1e-6


def test_clip_is_what_transformers_gives(
    tiny: Tiny, clip: ClipTowerEncoder, requests: list[EncodeRequest], picture: Callable[[int], Image]
) -> None:
    from transformers import CLIPModel, CLIPTokenizer

    model = CLIPModel.from_pretrained(tiny.transformers).eval()
    tokenizer = CLIPTokenizer.from_pretrained(tiny.transformers)
    text = "The cat can't PLAY,  the dog 2 can. " * 10
    tokens = tokenizer(text, truncation=True, max_length=77, return_tensors="pt")
    with torch.inference_mode():
        wanted = F.normalize(model.text_projection(model.text_model(**tokens).pooler_output), dim=1).numpy()
    assert np.abs(clip.encode_document([Content.of(text)]) - wanted).max() < 1e-5


@pytest.mark.parametrize("family", ["clip", "uniir"])
def test_alone_in_a_batch_and_shuffled(
    family: str, request: pytest.FixtureRequest, requests: list[EncodeRequest]
) -> None:
    encoder = request.getfixturevalue(family)
    together = rows(encoder, requests)
    alone = np.concatenate([rows(encoder, [each]) for each in requests])
    order = np.random.default_rng(0).permutation(len(requests))
    shuffled = rows(encoder, [requests[number] for number in order])
    assert np.abs(together - alone).max() < 1e-5
    assert np.abs(together[order] - shuffled).max() < 1e-5
    assert np.abs(np.linalg.norm(together, axis=1) - 1).max() < 1e-6


def test_from_many_threads(uniir: ClipTowerEncoder, requests: list[EncodeRequest]) -> None:
    wanted = rows(uniir, requests)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: rows(uniir, requests), range(8)):
            assert np.abs(found - wanted).max() < 1e-5


def test_who_gets_the_instruction(uniir: ClipTowerEncoder, picture: Callable[[int], Image]) -> None:
    content = Content.of("the cat")
    assert uniir.render(EncodeRequest(content, "query", INSTRUCTION)) == "Find a picture of it. the cat."
    assert uniir.render(EncodeRequest(content, "document", INSTRUCTION)) == "The cat."
    kinds = [unit.kind for unit in uniir.prepare(EncodeRequest(Content.of(picture(1)), "query", INSTRUCTION))]
    assert kinds == [TEXT, IMAGE]
    assert [unit.kind for unit in uniir.prepare(EncodeRequest(Content.of(picture(1)), "document"))] == [IMAGE]
    assert uniir.render(EncodeRequest(Content.of("cats &amp;amp; dogs"))) == "Cats & dogs."
    assert uniir.render(EncodeRequest(Content.of("“it’s ﬁne” Ａ"))) == '"it\'s fine" A.'


def test_each_family_crops_as_its_own_code(clip: ClipTowerEncoder, uniir: ClipTowerEncoder) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (SIDE + 3, SIDE, 3), dtype=np.uint8)  # a margin of 3
    content = Content.of(PIL.Image.fromarray(pixels))
    (ours,), (original,) = (encoder.prepare(EncodeRequest(content)) for encoder in (clip, uniir))
    assert np.array_equal(ours.payload, pixels[1 : SIDE + 1])
    assert np.array_equal(original.payload, pixels[2 : SIDE + 2])


def test_clip_follows_no_instruction(clip: ClipTowerEncoder) -> None:
    contents = [Content.of("the cat")]
    assert np.array_equal(clip.encode_query(contents, INSTRUCTION), clip.encode_document(contents))


def test_a_long_text_keeps_its_end_mark(tiny: Tiny, uniir: ClipTowerEncoder) -> None:
    (unit,) = uniir.prepare(EncodeRequest(Content.of("dog " * 200)))
    assert len(unit.payload) == LENGTH
    assert unit.payload[-1] == len(tiny.weights["token_embedding.weight"]) - 1
    (short,) = uniir.prepare(EncodeRequest(Content.of("dog " * 74)))  # with the full stop and both marks, 77
    assert len(short.payload) == LENGTH
    assert short.payload[:-2] == unit.payload[:-2]


@pytest.mark.parametrize("family", ["clip", "uniir"])
def test_a_bad_item_fails_alone(
    family: str, request: pytest.FixtureRequest, picture: Callable[[int], Image], tmp_path: Path
) -> None:
    encoder = request.getfixturevalue(family)
    contents = [Content.of("the cat"), Content.of("", " "), Content.of(tmp_path / "none.png"), Content.of(picture(1))]
    found = list(encoder.stream([EncodeRequest(content) for content in contents]))
    assert [encoded.error is None for encoded in found] == [True, False, False, True]
    assert isinstance(found[1].error, InputError)
    with pytest.raises(InputError, match="item 1"):
        encoder.encode_document(contents)


def test_the_fingerprint_is_of_weights_and_recipe(tiny: Tiny, tmp_path: Path) -> None:
    def identity(family: str, folder: Path) -> Any:
        return load_encoder(f"{family}:{folder}", device="cpu").identity

    first = identity("clip", tiny.original)
    assert first.dim == DIM
    assert first.spec == f"clip:{tiny.original.resolve()}"
    assert identity("uniir-clip-sf", tiny.original).fingerprint != first.fingerprint
    for name in ("vocab.json", "merges.txt"):
        (tmp_path / name).write_bytes((tiny.original / name).read_bytes())
    save_file({f"clip_model.{name}": tensor for name, tensor in tiny.weights.items()}, tmp_path / "clip_sf.safetensors")
    assert identity("clip", tmp_path).fingerprint == first.fingerprint
    changed = tiny.weights | {"visual.proj": tiny.weights["visual.proj"] * 1.01}
    save_file({f"clip_model.{name}": tensor for name, tensor in changed.items()}, tmp_path / "clip_sf.safetensors")
    assert identity("clip", tmp_path).fingerprint != first.fingerprint


def test_what_is_refused(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SpecError, match="names no model"):
        load_encoder("clip", device="cpu")
    with pytest.raises(ModelError, match="does not exist"):
        load_encoder(f"clip:{tmp_path / 'nowhere'}", device="cpu")
    with pytest.raises(ModelError, match=r"no \.safetensors"):
        load_encoder(f"clip:{tmp_path}", device="cpu")
    pickle = tmp_path / "clip_sf.pth"
    pickle.write_bytes(b"never opened")
    for spec in (f"uniir-clip-sf:{tmp_path}", f"uniir-clip-sf:{pickle}"):
        with pytest.raises(ModelError, match=r"clip_sf\.pth is a pickle.*convert it once to \.safetensors"):
            load_encoder(spec, device="cpu")
    monkeypatch.setenv("MMSEEK_OFFLINE", "1")
    with pytest.raises(ModelError, match=r"nobody/nothing@v1 .* MMSEEK_OFFLINE"):
        load_encoder("clip:nobody/nothing@v1", device="cpu")


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ({"config.json": '{"model_type": "siglip"}'}, "not 'clip'"),
        ({"model.safetensors": "damaged"}, "cannot be loaded as a CLIP"),
        ({"vocab.json": None, "merges.txt": None}, "no tokenizer"),
        ({"preprocessor_config.json": '{"size": 64}'}, "32 x 32"),
        ({"preprocessor_config.json": '{"do_resize": false}'}, "CLIP's steps"),
        ({"config.json": None}, "config.json"),
    ],
)
def test_a_damaged_checkpoint(tiny: Tiny, tmp_path: Path, damage: dict[str, str | None], reason: str) -> None:
    for path in tiny.transformers.iterdir():
        text = damage.get(path.name, "")
        if text:
            (tmp_path / path.name).write_text(text)
        elif text is not None:
            (tmp_path / path.name).write_bytes(path.read_bytes())
    with pytest.raises(ModelError, match=reason):
        load_encoder(f"clip:{tmp_path}", device="cpu")


def open_clip_folder(tiny: Tiny, folder: Path, **model: Any) -> str:
    for path in tiny.original.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    save_file(tiny.weights, folder / "clip_sf.safetensors")
    colours = {"mean": [0.5] * 3, "std": [0.25] * 3, "resize_mode": model.pop("resize_mode", "shortest")}
    config = {"embed_dim": DIM, "vision_cfg": {"image_size": SIDE}, "text_cfg": {"heads": WIDTH // 64}} | model
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": colours}))
    return f"clip:{folder}"


def test_open_clip_says_the_activation_and_the_colours(
    tiny: Tiny, clip: ClipTowerEncoder, picture: Callable[[int], Image], tmp_path: Path
) -> None:
    text, image = [Content.of("the cat")], [Content.of(picture(1))]
    quick = load_encoder(open_clip_folder(tiny, tmp_path, quick_gelu=True), device="cpu")
    assert np.abs(quick.encode_document(text) - clip.encode_document(text)).max() < 1e-6
    assert np.abs(quick.encode_document(image) - clip.encode_document(image)).max() > 1e-3
    exact = load_encoder(open_clip_folder(tiny, tmp_path), device="cpu")
    assert np.abs(exact.encode_document(text) - clip.encode_document(text)).max() > 1e-4
    assert exact.identity.fingerprint != quick.identity.fingerprint
    with pytest.raises(ModelError, match="hf_model_name"):
        load_encoder(open_clip_folder(tiny, tmp_path, text_cfg={"hf_model_name": "roberta-base"}), device="cpu")


def test_missing_weights_are_not_made_up(tiny: Tiny, tmp_path: Path) -> None:
    for path in tiny.transformers.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    state = converted(tiny.weights)
    del state["visual_projection.weight"]
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lack visual_projection\.weight: "):
        load_encoder(f"clip:{tmp_path}", device="cpu")


def test_budgets_are_kept(tiny: Tiny, uniir: ClipTowerEncoder, requests: list[EncodeRequest]) -> None:
    from mmseek.embed.batching import Budget

    small = UniirClipEncoder(
        uniir._tower,
        spec="x",
        fingerprint="0" * 64,
        options=EngineOptions(window=3),
        budgets={TEXT: Budget(80), IMAGE: Budget(1)},
    )
    assert np.abs(rows(small, requests) - rows(uniir, requests)).max() < 1e-5


def test_bge_vl_is_the_raw_sum(tiny: Tiny, requests: list[EncodeRequest]) -> None:
    from mmseek.embed.bge_vl import BgeVlEncoder

    encoder = load_encoder(f"bge-vl:{tiny.transformers}", device="cpu")
    assert isinstance(encoder, BgeVlEncoder)
    found = rows(encoder, requests)
    for request, row in zip(requests, found, strict=True):
        texts, images = parts(tiny, encoder, request)
        total = sum(texts, np.zeros(DIM)) + (np.mean(images, axis=0) if images else 0)
        assert np.abs(row - total / np.linalg.norm(total)).max() < 1e-5
    alone = np.concatenate([rows(encoder, [each]) for each in requests])
    assert np.abs(found - alone).max() < 1e-5
    assert np.abs(found[: len(found) // 2] - found[len(found) // 2 :]).max() < 1e-6  # no instruction
