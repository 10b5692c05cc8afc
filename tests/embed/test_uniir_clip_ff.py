"""`uniir-clip-ff` on a tiny random model, against its steps written out with OpenAI's modules and transformers' T5."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers.pre_tokenizers import ByteLevel
from torchvision import transforms
from transformers import T5Config
from transformers.models.t5.modeling_t5 import T5Stack

from mmseek import Content, EncodeRequest, Image, load_encoder
from mmseek.embed.detect import detect
from mmseek.errors import InputError, MediaError, ModelError
from mmseek.protocols import Encoder

WIDTH, SIDE, PATCH, LENGTH = 64, 32, 16, 77
MERGES = ["t h", "th e</w>", "c a", "ca t</w>", "d o", "do g</w>"]
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def clip_model(vocabulary: int) -> torch.nn.Module:
    from open_clip.model import CLIP

    sizes = {"layers": 2, "width": WIDTH}
    model: torch.nn.Module = CLIP(
        WIDTH,
        {**sizes, "image_size": SIDE, "patch_size": PATCH},
        {**sizes, "context_length": LENGTH, "vocab_size": vocabulary, "heads": 1},
        quick_gelu=True,
    )
    return model.eval()


def fusion_model() -> T5Stack:
    config = T5Config(d_model=WIDTH, d_kv=64, num_heads=2, num_layers=2, vocab_size=1, use_cache=False, eos_token_id=0)
    config.is_encoder_decoder = False
    return T5Stack(config).eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("fusion")
    letters = sorted(ByteLevel.alphabet())
    pieces = [*letters, *(f"{letter}</w>" for letter in letters), *(merge.replace(" ", "") for merge in MERGES)]
    pieces += ["<|startoftext|>", "<|endoftext|>"]
    (place / "vocab.json").write_text(json.dumps({piece: number for number, piece in enumerate(pieces)}))
    (place / "merges.txt").write_text("\n".join(["#version: 0.2", *MERGES]))
    torch.manual_seed(0)
    clip, fusion = clip_model(len(pieces)), fusion_model()
    with torch.no_grad():
        for weight in (*clip.parameters(), *fusion.parameters()):
            if weight.ndim:
                weight.normal_(1 if weight.ndim == 1 else 0, 0.2)  # norms about 1
    weights = {f"clip_model.{name}": value for name, value in clip.state_dict().items() if name != "attn_mask"}
    del weights["clip_model.text_projection"]  # as the original does
    weights |= {f"t5_layers.{name}": value for name, value in fusion.state_dict().items()}
    save_file({name: value.clone().contiguous() for name, value in weights.items()}, place / "clip_ff.safetensors")
    return place


@pytest.fixture(scope="module")
def encoder(folder: Path) -> Encoder:
    return load_encoder(f"uniir-clip-ff:{folder}", device="cpu")


@torch.inference_mode()
def plain(folder: Path, text: str, image: Image | None) -> np.ndarray:
    """As UniIR's CLIPFeatureFusion: both masks ignored, 77 + 5 states fused, their mean."""
    from transformers import CLIPTokenizer

    weights = load_file(folder / "clip_ff.safetensors")
    clip = clip_model(len(weights["clip_model.token_embedding.weight"]))
    own = {name.removeprefix("clip_model."): value for name, value in weights.items() if name.startswith("clip_")}
    clip.load_state_dict(own | {"text_projection": torch.zeros(WIDTH, WIDTH)}, strict=False)
    fusion = fusion_model()
    fusion.load_state_dict({name[10:]: value for name, value in weights.items() if name.startswith("t5_layers.")})
    numbers = CLIPTokenizer.from_pretrained(folder)(text)["input_ids"]
    states = clip.token_embedding(torch.tensor([numbers + [0] * (LENGTH - len(numbers))])) + clip.positional_embedding
    mask = torch.full((LENGTH, LENGTH), float("-inf")).triu(1)
    texts = clip.ln_final(clip.transformer(states, attn_mask=mask))
    pixels = torch.zeros(1, 3, SIDE, SIDE)
    if image is not None:
        steps = [
            transforms.Resize(SIDE, interpolation=transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(SIDE),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
        pixels[0] = transforms.Compose(steps)(PIL.Image.open(io.BytesIO(image.data or b"")))
    visual = clip.visual
    patches = visual.conv1(pixels).flatten(2).transpose(1, 2)
    row = torch.cat([visual.class_embedding.view(1, 1, -1), patches], dim=1) + visual.positional_embedding
    pictures = visual.ln_post(visual.transformer(visual.ln_pre(row))) @ visual.proj
    fused = fusion(inputs_embeds=torch.cat([texts, pictures], dim=1)).last_hidden_state.mean(dim=1)[0]
    return np.asarray(fused / fused.norm())


def vectors(encoder: Encoder, requests: list[EncodeRequest]) -> np.ndarray:
    found = []
    for encoded in encoder.stream(requests):
        assert encoded.vector is not None, encoded.error
        found.append(encoded.vector)
    return np.stack(found)


@pytest.fixture
def cases(picture: Callable[[int], Image]) -> list[tuple[EncodeRequest, str, Image | None]]:
    """Requests, and the text and the picture that the model is to see."""
    one, two, three = (picture(number) for number in (1, 2, 3))
    return [
        (EncodeRequest(Content.of("the cat")), "The cat.", None),
        (EncodeRequest(Content.of(one)), "", one),
        (EncodeRequest(Content.of(one), "query", "find it"), "Find it.", one),
        (EncodeRequest(Content.of(two, "a dog?"), "query", "find it"), "Find it. a dog?", two),
        (EncodeRequest(Content.of(three, "a dog"), "document", "not for documents"), "A dog.", three),
    ]


def test_equal_to_the_original_steps(
    encoder: Encoder, folder: Path, cases: list[tuple[EncodeRequest, str, Image]]
) -> None:
    found = vectors(encoder, [request for request, _, _ in cases])
    expected = np.stack([plain(folder, text, image) for _, text, image in cases])
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert (found @ found.T).min() < 0.95  # they are different


def test_batches_change_nothing(encoder: Encoder, cases: list[tuple[EncodeRequest, str, Image]]) -> None:
    requests = [request for request, _, _ in cases]
    single = np.concatenate([vectors(encoder, [request]) for request in requests])
    order = [3, 0, 4, 1, 2, 0]
    np.testing.assert_allclose(vectors(encoder, [requests[n] for n in order]), single[order], atol=1e-5)


def test_several_pictures_are_their_mean(encoder: Encoder, picture: Callable[[int], Image]) -> None:
    one, two = picture(1), picture(2)
    (both,) = vectors(encoder, [EncodeRequest(Content.of(one, two, "a dog"))])
    twice = vectors(encoder, [EncodeRequest(Content.of(one, one, "a dog")), EncodeRequest(Content.of(one, "a dog"))])
    np.testing.assert_allclose(twice[0], twice[1], atol=1e-5)
    assert 0 < float(both @ twice[0]) < 1 - 1e-6


def test_a_bad_item_fails_alone(encoder: Encoder) -> None:
    requests = [EncodeRequest(Content.of(Image(data=b"x"))), EncodeRequest(Content(())), EncodeRequest(Content.of("a"))]
    assert [type(each.error) for each in encoder.stream(requests)] == [MediaError, InputError, type(None)]


def test_auto_and_a_model_of_the_other_fusion(folder: Path, tmp_path: Path) -> None:
    assert detect(folder).family == "uniir-clip-ff"
    weights = load_file(folder / "clip_ff.safetensors")
    save_file({k: v for k, v in weights.items() if not k.startswith("t5")}, tmp_path / "clip_sf.safetensors")
    with pytest.raises(ModelError, match="cannot be loaded as a CLIP-FF: its weights have no t5_layers"):
        load_encoder(f"uniir-clip-ff:{tmp_path}", device="cpu")
