"""`cross-encoder`: any sentence-transformers CrossEncoder that gives one score a pair.

It reads text. Pictures of a document are passed over, so a document of pictures alone is scored as the empty text; it
keeps its place among the scores and, with most models, comes last. A query without text cannot be scored.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mmseek._types import Pair, RerankerIdentity, Sent
from mmseek.errors import InputError, ModelError
from mmseek.models.checkpoints import checkpoint_files, files_sha256, find_checkpoint, json_object
from mmseek.models.device import pick_device
from mmseek.models.spec import Spec, absolute
from mmseek.rerank.base import BatchedReranker, Prepared

if TYPE_CHECKING:
    from mmseek._types import FloatArray
    from mmseek.protocols import ScoreScale

__all__ = ["CrossEncoderReranker", "load"]

# To be raised by any change that gives other scores from the same weights.
RECIPE_VERSION: Final = 1
# Estimated tokens, padded to the longest.
_CPU_BUDGET: Final = 4096
_GPU_BUDGET: Final = 65536
_CHARACTERS_PER_TOKEN: Final = 3


class CrossEncoderReranker(BatchedReranker):
    """Scores of a CrossEncoder, after its own activation: those of its `predict`. Thread-safe.

    Args:
        model: a `sentence_transformers.CrossEncoder` of one label.
        identity: see `RerankerIdentity`.
    """

    def __init__(self, model: Any, *, identity: RerankerIdentity) -> None:
        self._model = model
        self._identity = identity
        self._lock = threading.Lock()  # fast tokenizers cannot be set up for two batches at once

    @property
    def identity(self) -> RerankerIdentity:
        return self._identity

    @property
    def scale(self) -> ScoreScale | None:
        """See `Scaled`: as the checkpoint's activation says."""
        kind = type(self._model.activation_fn).__name__
        return {"Sigmoid": "unit", "Identity": "logit"}.get(kind)  # type: ignore[return-value]  # mypy sees strings

    @property
    def budget(self) -> int:
        """By estimated tokens."""
        return _CPU_BUDGET if self._model.device.type == "cpu" else _GPU_BUDGET

    def prepare(self, pair: Pair) -> Prepared:
        """The two texts.

        Raises:
            InputError: the query has no text.
        """
        query, document = pair.query.text, pair.document.text
        if not query.strip():
            raise InputError("this reranker reads text only and the query has none: add words, or use a multimodal one")
        tokens = (len(query) + len(document)) // _CHARACTERS_PER_TOKEN + 3
        longest = self._model.max_seq_length
        return Prepared((query, document), cost=min(tokens, longest) if longest else tokens)

    def sent(self, pair: Pair) -> Sent:
        """Both texts, a line break between them: the model's tokenizer puts its own marks there."""
        query, document = self.prepare(pair).payload
        return Sent(f"{query}\n{document}")

    def forward(self, payloads: Sequence[tuple[str, str]]) -> FloatArray:
        """Scores (n,), float32."""
        with self._lock:
            scores = self._model.predict(list(payloads), batch_size=len(payloads), show_progress_bar=False)
        return np.asarray(scores, dtype=np.float32).reshape(len(payloads))


def load(spec: Spec, *, device: str | None) -> CrossEncoderReranker:
    """Load `cross-encoder:HUB_ID[@REVISION]` or `cross-encoder:FOLDER` in float32; no pickles, no remote code.

    Raises:
        ModelError: the checkpoint is missing, not whole, or does not give one score a pair.
    """
    chosen = pick_device(device)
    folder = find_checkpoint(spec)
    json_object(folder / "config.json")
    files = checkpoint_files(folder)
    import torch
    from sentence_transformers import CrossEncoder

    try:
        model = CrossEncoder(
            str(folder),
            device=chosen,
            trust_remote_code=False,
            local_files_only=True,
            model_kwargs={"use_safetensors": True, "dtype": torch.float32},
        )
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, ImportError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ModelError(f"{folder} is no cross-encoder that loads ({type(error).__name__}: {reason})") from error
    if model.num_labels != 1:
        raise ModelError(
            f"{folder} gives {model.num_labels} scores a pair and a reranker needs one: use a model with num_labels 1"
        )
    fingerprint = files_sha256(files, recipe=f"cross-encoder {RECIPE_VERSION}", root=folder)
    return CrossEncoderReranker(model, identity=RerankerIdentity(absolute(spec), fingerprint))
