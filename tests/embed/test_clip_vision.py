"""CLIP's picture tower with less work gives what transformers' own gives."""

import pytest
import torch
from transformers import CLIPVisionConfig, CLIPVisionModel

from mmseek.embed.clip_vision import can_pool, pooled

TINY = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4}


def tower(side: int = 32, patch: int = 8, act: str = "quick_gelu", attention: str = "sdpa") -> CLIPVisionModel:
    config = CLIPVisionConfig(image_size=side, patch_size=patch, hidden_act=act, **TINY)
    config._attn_implementation = attention
    model = CLIPVisionModel(config).eval()
    drawn = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weights in model.parameters():
            weights.copy_(torch.randn(weights.shape, generator=drawn) * 0.2)
    return model


@pytest.mark.parametrize("act", ["quick_gelu", "gelu"])
@pytest.mark.parametrize(("side", "patch"), [(32, 8), (30, 8), (24, 24)])
@pytest.mark.parametrize("count", [1, 3])
def test_the_same_as_transformers(act: str, side: int, patch: int, count: int) -> None:
    model = tower(side, patch, act)
    pixels = torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        assert can_pool(model)
        expected = model(pixel_values=pixels).pooler_output
        found = pooled(model, pixels)
    assert found.shape == expected.shape
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert expected.std() > 0.1


def test_what_cannot_be_run_so_is_not() -> None:
    model = tower()
    assert not can_pool(model)  # gradients
    with torch.no_grad():
        assert can_pool(model)
        assert not can_pool(tower(attention="eager"))

        class Adapted(torch.nn.Linear):
            """As a library of adapters puts in a layer's place."""

        layer = model.encoder.layers[1]
        for place, name in ((layer.self_attn, "v_proj"), (layer.mlp, "fc2"), (layer.self_attn, "out_proj")):
            plain = getattr(place, name)
            setattr(place, name, Adapted(plain.in_features, plain.out_features))
            assert not can_pool(model)
            setattr(place, name, plain)
        assert can_pool(model)
