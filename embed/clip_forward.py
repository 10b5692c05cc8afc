"""The two towers of a CLIP run on a CPU, with what the vectors do not need left out.

Same weights and same arithmetic as transformers' `CLIPModel` (Radford et al. 2021, arXiv:2103.00020) in evaluation
mode. What differs:

- of the last layer only the state that is read goes on: the picture's class token, the mark of a text's end;
- texts lie end to end in one row of tokens without padding, and are cut after their first mark of an end, which is what
  the model reads and which nothing later changes;
- queries, keys and values are one product, QuickGELU works in place, and the weights are laid out once for blocks of
  rows (`mmseek.models.packed_linear`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from mmseek.embed.runs import Run, runs_of
from mmseek.models.packed_linear import ROWS, PackedLinear, in_blocks

__all__ = ["ClipForward", "may_run", "weights_of"]

_QUICK: Final = "quick_gelu"
_SCALE: Final = 1.702
# Tokens of pictures that go through the layers together: as many as fill the processor, and stay in its cache.
_PICTURE_TOKENS: Final = 200

Norm: TypeAlias = Callable[[Tensor], Tensor]


class _Layer(NamedTuple):
    norm: Norm
    qkv: PackedLinear
    out: PackedLinear
    fed_norm: Norm
    up: PackedLinear
    down: PackedLinear


def may_run(model: Any) -> bool:
    """Whether a `CLIPModel` is one that `ClipForward` runs as transformers does."""
    configs = (model.config.text_config, model.config.vision_config)
    return all(config.hidden_act in (_QUICK, "gelu") for config in configs)


def weights_of(model: Any) -> int:
    """How many numbers the layers of both towers have, which are there twice once they are laid out."""
    towers = (model.text_model, model.vision_model)
    return sum(weight.numel() for tower in towers for weight in tower.encoder.parameters())


class ClipForward:
    """Projected, not normalised rows (n, dim). Safe to use from several threads.

    Args:
        model: transformers' `CLIPModel`, float32, on a CPU; see `may_run`. It keeps its weights, which are shared; who
            changes them has to make another of these.
        colours: mean and standard deviation, each (1, 3, 1, 1), for values from 0 to 1.
        end: the number of the token that ends a text.
        packed: whether weights are laid out; see `may_pack`.
    """

    def __init__(self, model: Any, colours: tuple[Tensor, Tensor], end: int, *, packed: bool) -> None:
        self._model = model
        self._end = end
        vision = model.config.vision_config
        self._patch, self._grid = vision.patch_size, vision.image_size // vision.patch_size
        tokens = self._grid**2 + 1
        self._patches = _of_bytes(model.vision_model.embeddings.patch_embedding.weight, *colours)
        self._pictures = max(1, _PICTURE_TOKENS // tokens)
        self._texts = _Stack(model.text_model, rows=ROWS if packed else 0, causal=True)
        self._images = _Stack(model.vision_model, rows=self._pictures * tokens if packed else 0, causal=False)

    def texts(self, texts: Sequence[Sequence[int]]) -> Tensor:
        """Of tokenised texts with their marks. Fastest with texts of equal length side by side."""
        model, embeddings = self._model, self._model.text_model.embeddings
        read = [text[: text.index(self._end) + 1] for text in texts]
        numbers = torch.tensor([number for text in read for number in text])
        positions = torch.cat([torch.arange(len(text)) for text in read])
        states = embeddings.token_embedding(numbers) + embeddings.position_embedding(positions)
        lengths = [len(text) for text in read]
        pooled = self._texts(states, runs_of(lengths), torch.tensor(lengths).cumsum(0) - 1)
        rows: Tensor = model.text_projection(model.text_model.final_layer_norm(pooled))
        return rows

    def images(self, pixels: Tensor) -> Tensor:
        """Of pictures as they are prepared, uint8 (n, S, S, 3)."""
        model, tower = self._model, self._model.vision_model
        pooled = torch.cat([self._class_states(part) for part in torch.split(pixels, self._pictures)])
        rows: Tensor = model.visual_projection(tower.post_layernorm(pooled))
        return rows

    def _class_states(self, pixels: Tensor) -> Tensor:
        embeddings, grid, patch = self._model.vision_model.embeddings, self._grid, self._patch
        count, length, used = len(pixels), grid**2 + 1, grid * patch
        squares = pixels[:, :used, :used].reshape(count, grid, patch, grid, 3 * patch).transpose(2, 3)
        patches = F.linear(squares.reshape(count * grid**2, -1).float(), *self._patches)
        states = patches.new_empty(count, length, patches.shape[1])
        states[:, 0] = embeddings.class_embedding
        states[:, 1:] = patches.view(count, grid**2, -1)
        states = self._model.vision_model.pre_layrnorm(states.add_(embeddings.position_embedding.weight))
        return self._images(states.view(count * length, -1), [Run(0, count, length)], torch.arange(count) * length)


def _of_bytes(weight: Tensor, mean: Tensor, std: Tensor) -> tuple[Tensor, Tensor]:
    """Weight (width, patch * patch * 3) and bias (width,) for bytes in place of standardised values."""
    scaled = weight / (255 * std)
    return scaled.permute(0, 2, 3, 1).reshape(len(weight), -1).contiguous(), -(weight * mean / std).sum((1, 2, 3))


class _Stack:
    """The layers of one tower.

    Args:
        tower: transformers' `CLIPTextModel` or `CLIPVisionModel`.
        rows: see `PackedLinear`.
        causal: whether a token sees those before it only.
    """

    def __init__(self, tower: Any, *, rows: int, causal: bool) -> None:
        self._rows = rows
        self._causal = causal
        self._heads: int = tower.config.num_attention_heads
        self._quick = tower.config.hidden_act == _QUICK
        self._layers = [_layer(layer, rows) for layer in tower.encoder.layers]

    def __call__(self, states: Tensor, runs: Sequence[Run], places: Tensor) -> Tensor:
        """The last layer's states (n, width) at `places`, one a sequence, of states (tokens, width)."""
        for layer in self._layers[:-1]:
            qkv = in_blocks(lambda x, layer=layer: layer.qkv(layer.norm(x)), self._rows, states)
            found = self._attend(qkv, runs)
            states = in_blocks(lambda x, y, layer=layer: self._fed(layer, x, y), self._rows, states, found)
        last = self._layers[-1]
        x = last.norm(states)
        width = states.shape[1]
        query, keys = last.qkv.part(slice(0, width), x[places]), last.qkv.part(slice(width, None), x)
        return self._fed(last, states[places], self._attend_once(query, keys, runs))

    def _attend(self, qkv: Tensor, runs: Sequence[Run]) -> Tensor:
        """Attention within each sequence: (tokens, 3 * width) to (tokens, width)."""
        out = qkv.new_empty(len(qkv), qkv.shape[1] // 3)
        for start, items, length in runs:
            here = slice(start, start + items * length)
            query, key, value = qkv[here].view(items, length, 3, self._heads, -1).permute(2, 0, 3, 1, 4)
            found = F.scaled_dot_product_attention(query, key, value, is_causal=self._causal)
            out[here].view(items, length, self._heads, -1).copy_(found.transpose(1, 2))
        return out

    def _attend_once(self, queries: Tensor, keys: Tensor, runs: Sequence[Run]) -> Tensor:
        """One query a sequence, which sees all of it: the class token has no mask, the last token needs none.

        Queries (n, width), keys and values (tokens, 2 * width), to (n, width).
        """
        out, first = torch.empty_like(queries), 0
        for start, items, length in runs:
            here, asked = slice(start, start + items * length), slice(first, first + items)
            query = queries[asked].view(items, 1, self._heads, -1).transpose(1, 2)
            key, value = keys[here].view(items, length, 2, self._heads, -1).permute(2, 0, 3, 1, 4)
            found = F.scaled_dot_product_attention(query, key, value)
            out[asked] = found.transpose(1, 2).reshape(items, -1)
            first += items
        return out

    def _fed(self, layer: _Layer, states: Tensor, attended: Tensor) -> Tensor:
        """What a layer does after attention, each (tokens, width): token by token."""
        states = layer.out(attended).add_(states)
        inner = layer.up(layer.fed_norm(states))
        inner = _quick_gelu_(inner) if self._quick else torch.ops.aten.gelu_(inner)
        return layer.down(inner).add_(states)


def _layer(layer: Any, rows: int) -> _Layer:
    attention, network = layer.self_attn, layer.mlp
    return _Layer(
        norm=layer.layer_norm1,
        qkv=PackedLinear(*_joined(attention.q_proj, attention.k_proj, attention.v_proj), rows),
        out=PackedLinear(attention.out_proj.weight, attention.out_proj.bias, rows),
        fed_norm=layer.layer_norm2,
        up=PackedLinear(network.fc1.weight, network.fc1.bias, rows),
        down=PackedLinear(network.fc2.weight, network.fc2.bias, rows),
    )


def _joined(*parts: Any) -> tuple[Tensor, Tensor]:
    """The weights and biases of linear layers one below the other; the layers' own become views of them."""
    weight, bias = (torch.cat([getattr(part, name).detach() for part in parts]) for name in ("weight", "bias"))
    for number, part in enumerate(parts):
        part.weight.data, part.bias.data = weight.chunk(len(parts))[number], bias.chunk(len(parts))[number]
    return weight, bias


def _quick_gelu_(x: Tensor) -> Tensor:
    """In place."""
    return x.mul_(torch.mul(x, _SCALE).sigmoid_())
