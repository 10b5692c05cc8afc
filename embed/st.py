"""`st:MODEL`, any model of sentence-transformers: texts, and pictures where the model says that it takes them.

The vectors are those of `SentenceTransformer.encode_query` and `encode_document`, normalised, in float32. The model's
own prompts are used: `query` for queries, `document` for documents, else its default one. An instruction replaces the
query's prompt, and one space follows it unless it ends in white space; models that read chats get it as it is, in a
message of the system. It changes nothing for a picture alone, unless the model reads chats.

A model that reads chats takes any sequence of texts and pictures, in order. Another takes texts (several are joined by
line breaks), one picture, or both together if it names that pair. What a model does not take fails alone.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mmseek._types import Content, EncodeRequest, EncoderIdentity, Role, Text
from mmseek.embed.base import EngineEncoder
from mmseek.embed.batching import Budget
from mmseek.embed.engine import EngineOptions, Unit
from mmseek.embed.st_ahead import embedded, may_prepare_ahead, prepared
from mmseek.embed.st_files import load_model, model_files
from mmseek.embed.st_lanes import may_share_model, tokenise_in_turn
from mmseek.embed.st_openvino import run_by_openvino
from mmseek.errors import InputError
from mmseek.media import MediaLimits, open_image
from mmseek.models.adapters import adapted_fingerprint, split_adapter
from mmseek.models.checkpoints import files_sha256, find_folder
from mmseek.models.device import pick_backend, pick_device
from mmseek.models.openvino import check_openvino
from mmseek.models.spec import Spec, absolute

if TYPE_CHECKING:
    import PIL.Image

    from mmseek._types import FloatArray

__all__ = ["RECIPE_VERSION", "StEncoder", "load"]

# To be raised by any change that gives other vectors from the same weights.
RECIPE_VERSION: Final = 1

_TEXT, _IMAGE, _BOTH = "text", "image", "image,text"
# Texts by estimated tokens, padded to the longest of a batch; what holds pictures by number.
_CPU_BUDGETS: Final = {_TEXT: Budget(1024), _IMAGE: Budget(8), _BOTH: Budget(4)}
_GPU_BUDGETS: Final = {_TEXT: Budget(16384), _IMAGE: Budget(64), _BOTH: Budget(16)}
# Of English text; only the size of batches depends on it.
_BYTES_A_TOKEN: Final = 4
# Decoded pictures are held in full size, and three windows at once.
_WINDOW: Final = 16


@dataclass(frozen=True, slots=True)
class _Input:
    """What `SentenceTransformer.encode` takes, and on which side; `prompt` None stands for the model's own."""

    value: Any
    role: Role
    prompt: str | None
    ahead: bool = False
    """Whether `value` is what `prepared` gives."""


class StEncoder(EngineEncoder):
    """A model of sentence-transformers. Safe to use from several threads.

    Those whose modules allow it run side by side and only tokenise in turn; with other models threads take turns.

    Args:
        model: the `SentenceTransformer`.
        spec: the spec that it names itself with.
        fingerprint: see `EncoderIdentity`.
        limits: of pictures.
        options: of the engine.
        budgets: how many tokens and pictures make a batch.
    """

    def __init__(
        self,
        model: Any,
        *,
        spec: str,
        fingerprint: str,
        limits: MediaLimits | None = None,
        options: EngineOptions | None = None,
        budgets: Mapping[str, Budget] = _CPU_BUDGETS,
    ) -> None:
        self._batch_budgets = budgets
        shared = may_share_model(model)
        super().__init__(options if shared or options is None else replace(options, lanes=1))
        self._model = model
        self._modalities = frozenset(model.modalities)
        self._longest: int = model.max_seq_length or budgets[_TEXT].cost
        self._limits = limits or MediaLimits()
        self._turn: AbstractContextManager[Any] = nullcontext() if shared else threading.Lock()
        self._ahead = may_prepare_ahead(model)
        if shared:
            tokenise_in_turn(model)
        self._identity = EncoderIdentity(spec=spec, fingerprint=fingerprint, dim=self._probe())

    @property
    def identity(self) -> EncoderIdentity:
        return self._identity

    @property
    def model(self) -> Any:
        """The `SentenceTransformer`."""
        return self._model

    @property
    def budgets(self) -> Mapping[str, Budget]:
        """Texts by tokens, what holds pictures by number."""
        return self._batch_budgets

    def prepare(self, request: EncodeRequest) -> Sequence[Unit]:
        """One unit: the whole content.

        Raises:
            MediaError: a picture cannot be used.
            InputError: there is nothing to encode, or the model does not take it.
        """
        content = request.content
        if content.is_empty:
            raise InputError("an item has neither text nor image: give at least one")
        prompt = self._prompt(request.instruction) if request.role == "query" else None
        self._refuse(content)
        key = hashlib.sha256(repr((request.role, prompt)).encode())
        pictures: dict[int, PIL.Image.Image] = {}
        for place, part in enumerate(content.parts):
            if isinstance(part, Text):
                key.update(f"text {len(part.text)} {part.text}".encode("utf-8", "surrogatepass"))
                continue
            pictures[place] = open_image(part, limits=self._limits)
            key.update(f"picture {pictures[place].size} ".encode() + pictures[place].tobytes())
        ahead = self._ahead and content.modality == _IMAGE and len(pictures) == 1
        value = prepared(self._model, next(iter(pictures.values()))) if ahead else self._value(content, pictures)
        cost = 1
        if content.modality == _TEXT:
            cost = min(len(content.text.encode("utf-8", "replace")) // _BYTES_A_TOKEN + 1, self._longest)
        # Chats and lone pictures never share a batch: sentence-transformers would wrap the chat in another.
        kind = _BOTH if len(pictures) > 1 else content.modality
        return [Unit(kind, _Input(value, request.role, prompt, ahead), cost=cost, key=key.digest())]

    def forward(self, kind: str, payloads: Sequence[_Input]) -> FloatArray:
        """Vectors (n, dim) as the model gives them."""
        del kind
        if payloads[0].ahead:  # all pictures of one kind are
            with self._turn:
                vectors = embedded(self._model, [payload.value for payload in payloads], str(self._model.device))
            pictures: FloatArray = vectors.float().cpu().numpy()
            return pictures
        groups: dict[tuple[Role, str | None], list[int]] = {}
        for place, payload in enumerate(payloads):
            groups.setdefault((payload.role, payload.prompt), []).append(place)
        rows = np.empty((len(payloads), self.identity.dim), dtype=np.float32)
        for (role, prompt), places in groups.items():
            rows[places] = self._encode_batch([payloads[place].value for place in places], role, prompt)
        return rows

    def combine(self, request: EncodeRequest, units: Sequence[Unit], vectors: Sequence[FloatArray]) -> FloatArray:
        """The only unit's vector."""
        del request, units
        return vectors[0]

    def _encode_batch(self, values: list[Any], role: Role, prompt: str | None) -> FloatArray:
        encode = self._model.encode_query if role == "query" else self._model.encode_document
        with self._turn:
            rows: FloatArray = encode(values, prompt=prompt, batch_size=len(values), show_progress_bar=False)
        return rows

    def _probe(self) -> int:
        """The length of the vectors. Asked of the model by using it: what its configuration says may be missing."""
        import PIL.Image

        value: Any = "a" if _TEXT in self._modalities else PIL.Image.new("RGB", (64, 64))
        return len(self._encode_batch([value], "document", None)[0])

    def _prompt(self, instruction: str | None) -> str | None:
        if not instruction or self._reads_chats or instruction[-1].isspace():
            return instruction
        return f"{instruction} "

    @property
    def _reads_chats(self) -> bool:
        return "message" in self._modalities

    def _refuse(self, content: Content) -> None:
        """What the model does not take.

        Raises:
            InputError: with what it does take.
        """
        pictures, kind = len(content.images), content.modality
        chats = self._reads_chats and _IMAGE in self._modalities
        if kind == _TEXT:
            taken = _TEXT in self._modalities
        elif kind == _IMAGE:
            taken = _IMAGE in self._modalities and (pictures == 1 or chats)
        else:
            taken = chats or (pictures == 1 and self._takes_pairs)
        if taken:
            return
        what = {_TEXT: "text alone", _IMAGE: "a picture alone", _BOTH: "text and picture together"}[kind]
        if pictures > 1:
            what = "several pictures in one item"
        known = [_TEXT, _IMAGE, *([_BOTH] if chats or self._takes_pairs else [])]
        takes = [name for name in known if name in self._modalities or name == _BOTH]
        raise InputError(
            f"this model does not encode {what}, only {' and '.join(takes) or 'what this program cannot give'}: "
            "leave the item out, split it or use another encoder"
        )

    @property
    def _takes_pairs(self) -> bool:
        return ("image", "text") in self._modalities or ("text", "image") in self._modalities

    def _value(self, content: Content, pictures: Mapping[int, PIL.Image.Image]) -> Any:
        if not pictures:
            # As a dictionary, because a string that looks like a picture's path or address would be opened.
            return content.text if self._modalities <= {_TEXT} else {_TEXT: content.text}
        if len(pictures) == 1 and content.modality == _IMAGE:
            return next(iter(pictures.values()))
        if not self._reads_chats:
            return {_IMAGE: next(iter(pictures.values())), _TEXT: content.text}
        parts = [
            {"type": _TEXT, _TEXT: part.text} if isinstance(part, Text) else {"type": _IMAGE, _IMAGE: pictures[place]}
            for place, part in enumerate(content.parts)
            if not isinstance(part, Text) or part.text.strip()
        ]
        return [{"role": "user", "content": parts}]


def load(spec: Spec, *, device: str | None, limits: MediaLimits, options: EngineOptions) -> StEncoder:
    """Load `st:HUB_ID[@REVISION]` or `st:FOLDER`, in float32.

    Raises:
        SpecError: the spec names no model.
        ModelError: the model is missing, not whole, not in safetensors, or needs code of its own.
        MissingExtra: OpenVINO is asked for and not installed.
    """
    chosen = pick_device(device)
    by_openvino = pick_backend() == "openvino"
    if by_openvino:
        check_openvino(chosen)
    whole, adapter = split_adapter(spec)
    folder = find_folder(whole)
    files = model_files(folder, whole)
    model = load_model(folder, whole, device=chosen, adapter=adapter)
    fingerprint = adapted_fingerprint(files_sha256(files, recipe=f"st {RECIPE_VERSION}"), adapter)
    if by_openvino:
        run_by_openvino(model, fingerprint=fingerprint, lanes=options.workers)
    window = options.window if set(model.modalities) <= {_TEXT} else min(options.window, _WINDOW)
    return StEncoder(
        model,
        spec=absolute(spec),
        fingerprint=fingerprint,
        limits=limits,
        options=replace(options, window=window, lanes=options.workers if chosen == "cpu" else 1),
        budgets=_CPU_BUDGETS if chosen == "cpu" else _GPU_BUDGETS,
    )
