"""`jina-m0`: jina-reranker-m0, Qwen2-VL with a small network on the state of one last token.

No chat: the document, then the query, each a text or a picture, then the token that is scored. The score is
`sigmoid(network(state) - 2.65)`, as in the published code. The document is first and kept for the next query.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from mmseek._types import Content, Pair, RerankerIdentity
from mmseek.config import settings
from mmseek.errors import ModelError
from mmseek.media import MediaLimits
from mmseek.models.checkpoints import checkpoint_files, files_sha256, find_checkpoint, weight_files
from mmseek.models.qwen_vl_inputs import PixelRange
from mmseek.models.spec import absolute
from mmseek.rerank.mllm.engine import Head, MllmReranker
from mmseek.rerank.mllm.loading import load_backbone
from mmseek.rerank.mllm.sequences import Parts, Prompt

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from mmseek.models.spec import Spec

__all__ = ["RECIPE_VERSION", "JinaM0Reranker", "load"]

# To be raised by any change that gives other scores from the same weights.
RECIPE_VERSION: Final = 1
SCORE_TOKEN: Final = 100
LOGIT_BIAS: Final = 2.65
# At most 768 visual tokens.
PIXELS: Final = PixelRange(3136, 602112)
MAX_TOKENS: Final = 10240
MAX_DOCUMENT_TOKENS: Final = 9728
_LAYERS: Final = ("score.0", "score.2")


class JinaM0Reranker(MllmReranker):
    """A score from 0 to 1. Of a side with pictures and text, which the original does not have, pictures come first."""

    max_tokens = MAX_TOKENS

    def prompt(self, pair: Pair) -> Prompt:
        """Document, then query."""
        document = self._cut(pair.document)
        return Prompt(("**Document**:\n", *_side(document), "\n**Query**:\n"), _side(pair.query))

    def fit(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """At most as many tokens as the model was made for, the one that is scored at the end."""
        return np.append(numbers[: self.max_tokens - 1], SCORE_TOKEN)

    def _cut(self, document: Content) -> Content:
        """The document, its text as long as the original takes it."""
        if document.images:
            return document
        tokenizer = self.backbone.tokenizer
        numbers = tokenizer.encode(document.text, add_special_tokens=False).ids
        if len(numbers) < MAX_DOCUMENT_TOKENS:
            return document
        return Content.of(tokenizer.decode(numbers[:MAX_DOCUMENT_TOKENS], skip_special_tokens=False))


def _side(content: Content) -> Parts:
    return (*content.images, content.text)


def load(spec: Spec, *, device: str | None) -> JinaM0Reranker:
    """Load `jina-m0:HUB_ID[@REVISION]` or `jina-m0:FOLDER`.

    Raises:
        ModelError: the checkpoint is missing, of another kind or not whole.
    """
    folder = find_checkpoint(spec)
    backbone = load_backbone(folder, spec.family, device, kinds=("qwen2_vl",), pixels=PIXELS, headless=True)
    recipe = f"jina-m0 {RECIPE_VERSION} {PIXELS.least} {PIXELS.most} {MAX_TOKENS}"
    return JinaM0Reranker(
        backbone,
        _network(folder, backbone.device),
        identity=RerankerIdentity(absolute(spec), files_sha256(checkpoint_files(folder), recipe=recipe, root=folder)),
        limits=MediaLimits.from_settings(settings()),
        document_first=True,
    )


def _network(folder: Path, device: str) -> Head:
    """The two layers on the last state, in float32.

    Raises:
        ModelError: the checkpoint has none.
    """
    import torch
    from safetensors import safe_open

    found: dict[str, torch.Tensor] = {}
    for file in weight_files(folder):
        with safe_open(file, framework="pt", device=device) as weights:
            names = [name for name in weights.keys() if name.startswith("score.")]  # noqa: SIM118 - it is no dict
            found.update({name: weights.get_tensor(name).float() for name in names})
    try:
        (one, bias), (two, offset) = [(found[f"{layer}.weight"], found[f"{layer}.bias"]) for layer in _LAYERS]
    except KeyError as error:
        raise ModelError(
            f"{folder} has no layer {error} on its states and is no jina-reranker-m0: check the folder"
        ) from error

    def head(states: torch.Tensor) -> torch.Tensor:
        inner = torch.relu(torch.nn.functional.linear(states, one, bias))
        return torch.sigmoid(torch.nn.functional.linear(inner, two, offset)[:, 0] - LOGIT_BIAS)

    return head
