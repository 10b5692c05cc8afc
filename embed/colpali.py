"""`colpali`: ColPali on PaliGemma, a vector for each token (Faysse et al. 2024, arXiv:2407.01449).

What the model reads, byte for byte as in the authors' code (one `<bos>` is the prompt's, another the processor's):

    <image> (once a visual token) <bos><bos>Describe the image.\\n      a document that is a picture
    <bos>What is shown?<pad> (ten times)                               a query
    <bos>A text.                                                       a document that is a text

All tokens see one another, as in training. (Under transformers 5 the authors' code leaves a query's token types out,
and its tokens then see only what stands before them.) A picture becomes a square and its shape is lost. Texts beside
pictures, for which the original has no form, stand in the place of `Describe the image.`
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mmseek._types import Content, EncodeRequest, EncoderIdentity, Role, Sent
from mmseek.embed.batching import Budget
from mmseek.embed.clip_pictures import ClipPictures
from mmseek.embed.engine import EngineOptions, Unit
from mmseek.embed.multi_vector import EngineTokenEncoder
from mmseek.embed.projection import Projection, load_projection
from mmseek.embed.qwen_vl import engine_options, load_tokenizer, picture_settings
from mmseek.errors import InputError, ModelError
from mmseek.media import MediaLimits, open_image
from mmseek.models.checkpoints import checkpoint_files, files_sha256, find_checkpoint, json_object
from mmseek.models.device import pick_device, pick_dtype
from mmseek.models.spec import Spec, absolute

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from tokenizers import Tokenizer

    from mmseek._types import FloatArray
    from mmseek.embed.clip_pictures import Pixels

__all__ = ["ColPaliRecipe", "load", "render"]

# To be raised by any change that gives other vectors from the same weights.
RECIPE_VERSION: Final = 1
MAX_TOKENS: Final = 8192
IMAGE, BOS, PAD = "<image>", "<bos>", "<pad>"
_KIND: Final = "sequence"
_CPU_BUDGET: Final = Budget(2048)
_GPU_BUDGET: Final = Budget(32768)
# The names of the weights in every version of the authors' code and of transformers, as those of `PaliGemmaModel`.
_RENAMED: Final = {
    r"^(base_model\.)?(model\.)+": "",
    r"^language_model\.model\.": "language_model.",
}


@dataclass(frozen=True, slots=True)
class _Sequence:
    """One content: token numbers (n,), and pictures (S, S, 3) in 8 bits."""

    tokens: NDArray[np.int64]
    pictures: tuple[Pixels, ...]


class ColPaliRecipe:
    """PaliGemma's states, all projected. Thread-safe.

    Args:
        model: transformers' `PaliGemmaModel`.
        tokenizer: of the checkpoint.
        pictures: how a picture becomes a square.
        projection: of the states.
        device: where the model is.
        limits: of pictures.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Tokenizer,
        pictures: ClipPictures,
        projection: Projection,
        *,
        device: str,
        limits: MediaLimits,
    ) -> None:
        self.model = model
        self._tokenizer = tokenizer
        self._pictures = pictures
        self.projection = projection
        self._device = device
        self._limits = limits
        vision = model.config.vision_config
        self._visual: int = (vision.image_size // vision.patch_size) ** 2
        self._image: int = model.config.image_token_id

    @property
    def budgets(self) -> Mapping[str, Budget]:
        """By tokens, text and visual, padded to the longest."""
        return {_KIND: _CPU_BUDGET if self._device == "cpu" else _GPU_BUDGET}

    def prepare(self, request: EncodeRequest) -> Sequence[Unit]:
        """One unit: the whole content.

        Raises:
            MediaError: a picture cannot be used.
            InputError: there is nothing to encode, or it needs more tokens than the model takes.
        """
        if request.content.is_empty:
            raise InputError("an item has neither text nor image: give at least one")
        if IMAGE in request.content.text:
            raise InputError(f"the text holds {IMAGE}, which is the model's mark for a picture: take it out")
        pictures = tuple(self._pictures(open_image(each, limits=self._limits)) for each in request.content.images)
        prompt = render(request.content, request.role).replace(IMAGE, IMAGE * self._visual)
        numbers = self._tokenizer.encode(prompt, add_special_tokens=False).ids
        if len(numbers) > MAX_TOKENS:
            raise InputError(f"the item needs {len(numbers)} tokens and the model takes {MAX_TOKENS}: shorten it")
        tokens = np.asarray(numbers, dtype=np.int64)
        key = hashlib.sha256(tokens.tobytes())
        for picture in pictures:
            key.update(picture.tobytes())
        return [Unit(_KIND, _Sequence(tokens, pictures), cost=len(tokens), key=key.digest())]

    def reads(self, request: EncodeRequest) -> Sent:
        """The prompt, and how many tokens there are; every picture has as many as another."""
        (unit,) = self.prepare(request)
        visual = (self._visual,) * len(request.content.images)
        return Sent(render(request.content, request.role), visual, len(unit.payload.tokens))

    def forward(self, kind: str, payloads: Sequence[_Sequence]) -> Sequence[FloatArray]:
        """Vectors (tokens, dim) of each payload, float32, L2-normalised."""
        del kind
        import torch

        with torch.inference_mode():
            return [self.projection(states).cpu().numpy() for states in self.states(payloads)]

    def states(self, payloads: Sequence[_Sequence]) -> list[torch.Tensor]:
        """The states (tokens, d) of each payload, with a graph where gradients are enabled."""
        import torch

        longest = max(len(payload.tokens) for payload in payloads)
        tokens = np.zeros((len(payloads), longest), dtype=np.int64)
        mask = np.zeros((len(payloads), longest), dtype=np.int64)
        for row, payload in enumerate(payloads):
            tokens[row, : len(payload.tokens)], mask[row, : len(payload.tokens)] = payload.tokens, 1
        pictures = [picture for payload in payloads for picture in payload.pictures]
        states = self.model(
            input_ids=torch.from_numpy(tokens).to(self._device),
            attention_mask=torch.from_numpy(mask).to(self._device),
            # All of one type, that of a prompt: every token sees all.
            token_type_ids=torch.zeros(tokens.shape, dtype=torch.long, device=self._device),
            pixel_values=self._pixels(pictures) if pictures else None,
            use_cache=False,
        ).last_hidden_state
        return [states[row, : len(payload.tokens)] for row, payload in enumerate(payloads)]

    def combine(self, request: EncodeRequest, units: Sequence[Unit], vectors: Sequence[FloatArray]) -> FloatArray:
        """The only unit's vectors."""
        del request, units
        return vectors[0]

    def _pixels(self, pictures: Sequence[Pixels]) -> Any:
        import torch

        values = torch.from_numpy(np.stack(pictures)).to(self._device).permute(0, 3, 1, 2).float() / 255
        mean, std = (
            torch.tensor(each, device=self._device).view(1, 3, 1, 1)
            for each in (self._pictures.mean, self._pictures.std)
        )
        return ((values - mean) / std).to(self.model.dtype)


def render(content: Content, role: Role) -> str:
    """What the model reads, with one `<image>` a picture."""
    end = PAD * 10 if role == "query" else ""
    if not content.images:
        return f"{BOS}{content.text}{end}"
    return f"{IMAGE * len(content.images)}{BOS}{BOS}{content.text or 'Describe the image.'}{end}\n"


def load(spec: Spec, *, device: str | None, limits: MediaLimits, options: EngineOptions) -> EngineTokenEncoder:
    """Load `colpali:HUB_ID[@REVISION]` or `colpali:FOLDER`; float32, on CUDA bfloat16.

    Raises:
        SpecError: the spec names no model.
        ModelError: the checkpoint is missing, of another kind or not whole.
    """
    chosen = pick_device(device)
    folder = find_checkpoint(spec)
    kind = json_object(folder / "config.json").get("model_type")
    if kind != "paligemma":
        raise ModelError(f"{folder} is a {kind} model, and colpali runs paligemma: use another family")
    _, settings = picture_settings(folder)
    tokenizer = load_tokenizer(folder, None)
    model = _model(folder, chosen)
    for mark, number in ((IMAGE, model.config.image_token_id), (BOS, None), (PAD, None)):
        found = tokenizer.token_to_id(mark)
        if found is None or number not in (None, found):
            raise ModelError(f"the tokenizer of {folder} does not know {mark} as the model does: get it again")
    projection = load_projection(
        folder, like=next(model.parameters()), width=model.config.get_text_config().hidden_size
    )
    pictures = ClipPictures.from_config(
        {"image_mean": (0.5, 0.5, 0.5), "image_std": (0.5, 0.5, 0.5)} | settings,
        size=model.config.vision_config.image_size,
        round_offset=False,
    )
    fingerprint = files_sha256(checkpoint_files(folder), recipe=f"colpali {RECIPE_VERSION}", root=folder)
    return EngineTokenEncoder(
        ColPaliRecipe(model, tokenizer, pictures, projection, device=chosen, limits=limits),
        EncoderIdentity(spec=absolute(spec), fingerprint=fingerprint, dim=projection.dim),
        engine_options(options),
    )


def _model(folder: Path, device: str) -> Any:
    from safetensors import SafetensorError
    from transformers import PaliGemmaModel

    try:
        model, report = PaliGemmaModel.from_pretrained(
            folder,
            dtype=pick_dtype(device),
            attn_implementation="sdpa",
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            key_mapping=_RENAMED,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ModelError(f"{folder} cannot be loaded ({type(error).__name__}: {reason}): get it again") from error
    lacking = sorted({*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])})
    if lacking:
        raise ModelError(f"{folder} lacks {len(lacking)} of the weights, {lacking[0]} among them: get it again")
    return model.to(device).eval()
