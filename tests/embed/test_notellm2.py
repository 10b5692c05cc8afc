"""The `notellm2` encoder on a random model made here, against the authors' computation written out."""

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
from tokenizers import Tokenizer
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Normalize, Resize, ToTensor
from transformers import (
    Blip2QFormerConfig,
    Blip2QFormerModel,
    CLIPVisionConfig,
    CLIPVisionModel,
    LlamaConfig,
    LlamaModel,
)

from mmseek import Content, EncodeRequest, Image, load_encoder
from mmseek.embed.notellm2 import NoteLlm2Encoder, render
from mmseek.errors import InputError, ModelError
from mmseek.testing import noise_picture as picture

Vectors = Callable[[Any, Sequence[EncodeRequest]], np.ndarray]


SEEN = '笔记：{"图片":"<IMG>"}，压缩为一个词：“<IMG_EMB>”。'
CASES = [
    (
        EncodeRequest(Content.of(picture(40, 31), "a red bike")),
        SEEN + '笔记：{"标题":"","话题":"","内容":"a red bike"}',
    ),
    (
        EncodeRequest(Content.of("Bikes", picture(30, 50), "one\ntwo #red[话题]# #a very long topic#")),
        SEEN + '笔记：{"标题":"Bikes","话题":"red","内容":"one。two  #a very long topic#"}',
    ),
    (EncodeRequest(Content.of(picture(60, 28)), "query", "not used"), SEEN + '笔记：{"标题":"","话题":"","内容":""}'),
    (EncodeRequest(Content.of("a text alone")), '笔记：{"标题":"","话题":"","内容":"a text alone"}'),
    (
        EncodeRequest(Content.of(picture(28, 28), picture(29, 40), "x" * 90)),
        SEEN.replace("<IMG>", "<IMG><IMG>") + f'笔记：{{"标题":"","话题":"","内容":"{"x" * 80}"}}',
    ),
]
REQUESTS = [request for request, _ in CASES]


@pytest.fixture(scope="session")
def encoder(tiny_vlm: Callable[[str], Path]) -> NoteLlm2Encoder:
    made = load_encoder(f"notellm2:{tiny_vlm('notellm2')}", device="cpu")
    assert isinstance(made, NoteLlm2Encoder)
    return made


class Plain:
    """The authors' forward pass over one note with one picture, both of its vectors."""

    def __init__(self, folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        self.weights = load_file(folder / "model.safetensors")
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.language = self._filled(LlamaModel(LlamaConfig(**config)), "model.")
        clip = CLIPVisionModel(CLIPVisionConfig(**config["vision_config"]))
        self.vision = self._filled(clip, "vision_tower.vision_tower.vision_model.")
        qformer = Blip2QFormerConfig(**config["qformer_config"], encoder_hidden_size=16)
        self.qformer = self._filled(Blip2QFormerModel(qformer), "qformer.")

    def _filled(self, module: torch.nn.Module, name: str) -> torch.nn.Module:
        own = {key.removeprefix(name): value for key, value in self.weights.items() if key.startswith(name)}
        module.load_state_dict(own)
        return module.eval()

    @torch.no_grad()
    def __call__(self, note: str, image: Image) -> tuple[np.ndarray, np.ndarray]:
        weights = self.weights
        transform = Compose(
            [
                Resize(28, interpolation=InterpolationMode.BICUBIC),
                CenterCrop(28),
                ToTensor(),
                Normalize((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
            ]
        )
        pixels = transform(PIL.Image.open(io.BytesIO(image.data or b"")))[None]
        features = self.vision(pixels, output_hidden_states=True).hidden_states[-1]
        clip = features[:, 0] @ weights["mm_projector_latefusion.weight"].T
        seen = self.qformer(query_embeds=weights["query_tokens"], encoder_hidden_states=features).last_hidden_state
        seen = seen @ weights["mm_projector.weight"].T + weights["mm_projector.bias"]
        # The closing request is tokenised by itself, and its mark of the beginning left out.
        ids = torch.tensor([self.tokenizer.encode(note).ids + self.tokenizer.encode("，压缩为一个词：“").ids[1:]])
        place = int(torch.where(ids == self.tokenizer.token_to_id("<IMG>"))[1])
        embeddings = self.language.embed_tokens(ids)
        inputs = torch.cat([embeddings[:, :place], seen, embeddings[:, place + 1 :]], dim=1)
        states = self.language(inputs_embeds=inputs).last_hidden_state
        (compressed,) = torch.where(ids[0] == self.tokenizer.token_to_id("<IMG_EMB>"))
        found = []
        for state in (states[:, -1], states[:, int(compressed) - 1 + seen.shape[1] - 1]):
            gate = torch.sigmoid(torch.cat([state, clip], dim=1) @ weights["gate.trans_all.weight"].T)
            fused = (gate * state + (1 - gate) * clip + state) @ weights["linear.weight"].T
            found.append(np.asarray(torch.nn.functional.normalize(fused, dim=1)[0]))
        return found[0], found[1]


@pytest.mark.parametrize(("request_", "text"), CASES)
def test_prompts(request_: EncodeRequest, text: str) -> None:
    assert render(request_.content) == text


def test_equal_to_the_authors_computation(
    encoder: NoteLlm2Encoder, tiny_vlm: Callable[[str], Path], vectors: Vectors
) -> None:
    plain = Plain(tiny_vlm("notellm2"))
    expected = [plain(text, request.content.images[0]) for request, text in CASES[:3]]
    both, pictures = np.stack([one for one, _ in expected]), np.stack([other for _, other in expected])
    found = vectors(encoder, REQUESTS[:3])
    np.testing.assert_allclose(found[:2], both[:2], atol=1e-5)
    # A picture alone has the vector of its compression, whatever text follows it.
    np.testing.assert_allclose(found[2], pictures[2], atol=1e-5)
    assert float(pictures[2] @ both[2]) < 0.999


def test_a_text_alone_has_nothing_fused(
    encoder: NoteLlm2Encoder, tiny_vlm: Callable[[str], Path], vectors: Vectors
) -> None:
    plain = Plain(tiny_vlm("notellm2"))
    ids = plain.tokenizer.encode(CASES[3][1]).ids + plain.tokenizer.encode("，压缩为一个词：“").ids[1:]
    with torch.no_grad():
        state = plain.language(torch.tensor([ids])).last_hidden_state[:, -1] @ plain.weights["linear.weight"].T
    expected = np.asarray(torch.nn.functional.normalize(state, dim=1)[0])
    np.testing.assert_allclose(vectors(encoder, REQUESTS[3:4])[0], expected, atol=1e-5)


def test_batches_change_nothing(encoder: NoteLlm2Encoder, vectors: Vectors) -> None:
    single = np.concatenate([vectors(encoder, [request]) for request in REQUESTS])
    assert np.abs(single @ single.T - np.eye(len(single))).max() < 0.9999
    order = [3, 0, 2, 1, 4, 0]
    np.testing.assert_allclose(vectors(encoder, [REQUESTS[n] for n in order]), single[order], atol=1e-5)
    payloads = [encoder.prepare(request)[0].payload for request in REQUESTS]
    np.testing.assert_allclose(encoder.forward("sequence", payloads), single, atol=1e-5)


@pytest.mark.parametrize("text", [" ", "an <IMG> here", "<IMG_EMB>"])
def test_what_is_refused_fails_alone(encoder: NoteLlm2Encoder, text: str) -> None:
    first, second = encoder.stream([EncodeRequest(Content.of(text)), REQUESTS[0]])
    assert isinstance(first.error, InputError)
    assert second.vector is not None


def test_sizes_follow_from_the_weights(tmp_path: Path) -> None:
    from mmseek.embed.notellm2_model import _qformer_sizes
    from mmseek.embed.parts import clip_vision_sizes

    vision = CLIPVisionModel(
        CLIPVisionConfig(
            hidden_size=128,
            image_size=28,
            patch_size=14,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=24,
        )
    )
    found = CLIPVisionConfig(**clip_vision_sizes(vision.state_dict())).to_dict()
    assert found == vision.config.to_dict() | {"dtype": found["dtype"]}
    qformer = Blip2QFormerModel(
        Blip2QFormerConfig(hidden_size=64, num_hidden_layers=3, num_attention_heads=1, intermediate_size=24)
    )
    sizes = _qformer_sizes(qformer.state_dict(), 64)
    assert sizes == {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 1, "intermediate_size": 24}


def test_broken_models(tiny_vlm: Callable[[str], Path], tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(tiny_vlm("notellm2"), folder)
    weights = load_file(folder / "model.safetensors")
    save_file({name: value for name, value in weights.items() if "norm1" not in name}, folder / "model.safetensors")
    with pytest.raises(ModelError, match=r"lacks 4 of the weights, vision_tower\."):
        load_encoder(f"notellm2:{folder}", device="cpu")
    weights.pop("query_tokens")
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(ModelError, match="is no NoteLLM-2"):
        load_encoder(f"notellm2:{folder}", device="cpu")
