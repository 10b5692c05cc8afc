"""LLaVA-NeXT checkpoints in the layout of transformers, as the families that build on them use them.

A picture is its global patch and the patches of the best fitting grid of `image_grid_pinpoints`, prepared by
transformers' own code on Pillow. Its states replace one mark in the prompt.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mmseek.embed.batching import Budget
from mmseek.embed.engine import Unit
from mmseek.embed.qwen_vl import colours, load_model, load_tokenizer, picture_settings
from mmseek.embed.sequence import SequenceEncoder, last_token_vectors
from mmseek.errors import InputError, ModelError
from mmseek.media import MediaLimits, open_image
from mmseek.models.adapters import adapted_fingerprint, split_adapter
from mmseek.models.checkpoints import files_sha256, find_checkpoint, json_object, weight_files
from mmseek.models.device import pick_device
from mmseek.models.spec import Spec
from mmseek.models.visual_tokens import VisualTokens, with_fewer

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from tokenizers import Tokenizer

    from mmseek._types import FloatArray, Image
    from mmseek.models.significance import LlavaSignificance
    from mmseek.models.token_reduction import Reduced

__all__ = ["IMAGE_TOKEN", "LlavaInputs", "LlavaNext", "LlavaNextEncoder", "Picture", "load_llava_next"]

IMAGE_TOKEN: Final = "<image>"  # noqa: S105 - a token of text


@dataclass(frozen=True, slots=True)
class Picture:
    """Patches (p, 3, side, side), standardised, the picture's height and width, and how many states it has."""

    pixels: NDArray[np.float32]
    size: tuple[int, int]
    states: int


@dataclass(frozen=True, slots=True)
class LlavaInputs:
    """Tokens (n,), with as many image tokens as the pictures have states."""

    tokens: NDArray[np.int64]
    pictures: tuple[Picture, ...] = ()


@dataclass(frozen=True, slots=True)
class LlavaNext:
    """A loaded checkpoint. Thread-safe.

    Args:
        model: transformers' `LlavaNextModel`, on `device`.
        tokenizer: with the checkpoint's own post-processor.
        processor: transformers' `LlavaNextImageProcessorPil`.
        device: where the model is.
        fingerprint: see `EncoderIdentity`.
        fewer: how many of a picture's states are read; None for all.
        significance: of the states, where `fewer` asks for it.
    """

    model: Any
    tokenizer: Tokenizer
    processor: Any
    device: str
    fingerprint: str
    fewer: VisualTokens | None = None
    significance: LlavaSignificance | None = None

    @property
    def dim(self) -> int:
        dim: int = self.model.config.text_config.hidden_size
        return dim

    def unit(self, kind: str, prompt: str, pictures: Sequence[Picture] = ()) -> Unit:
        """A prompt with one `IMAGE_TOKEN` for each picture, ready for `vectors`.

        Raises:
            InputError: there are more marks of pictures than pictures, or more tokens than the model takes.
        """
        if prompt.count(IMAGE_TOKEN) != len(pictures):
            raise InputError(f"the text holds {IMAGE_TOKEN}, which is the model's mark for a picture: take it out")
        tokens = np.asarray(self.tokenizer.encode(prompt, add_special_tokens=True).ids, dtype=np.int64)
        counts = np.ones(len(tokens), dtype=np.int64)
        counts[tokens == self.model.config.image_token_id] = [picture.states for picture in pictures]
        tokens = np.repeat(tokens, counts)
        most = self.model.config.text_config.max_position_embeddings
        if len(tokens) > most:
            raise InputError(f"the text has {len(tokens)} tokens and the model takes {most}: shorten it")
        key = hashlib.sha256(tokens.tobytes())
        for picture in pictures:
            key.update(repr(picture.size).encode() + picture.pixels.tobytes())
        cost = len(tokens)
        if self.fewer is not None:
            cost -= sum(picture.states - self.fewer.kept(picture.states) for picture in pictures)
        return Unit(kind, LlavaInputs(tokens, tuple(pictures)), cost=cost, key=key.digest())

    def picture(self, image: Image, limits: MediaLimits, size: tuple[int, int] | None = None) -> Picture:
        """Decode and cut up a picture, squeezed to a size first (width, height) if one is given.

        Raises:
            MediaError: it cannot be used.
        """
        opened = open_image(image, limits=limits)
        if size is not None:
            opened = opened.resize(size)  # bicubic
        given = self.processor(images=[opened], return_tensors="np")
        pixels: NDArray[np.float32] = given["pixel_values"][0].astype(np.float32)
        height, width = (int(side) for side in given["image_sizes"][0])
        return Picture(pixels, (height, width), self._states(len(pixels), (height, width)))

    def vectors(self, payloads: Sequence[LlavaInputs]) -> FloatArray:
        """L2-normalised states of the last tokens (n, dim), float32."""
        pictures = [picture for payload in payloads for picture in payload.pictures]
        if self.fewer is not None and pictures:
            return self._fewer_vectors(payloads, pictures)
        visual = self._visual(pictures) if pictures else {}
        return last_token_vectors(self.model, [payload.tokens for payload in payloads], self.device, **visual)

    def _fewer_vectors(self, payloads: Sequence[LlavaInputs], pictures: Sequence[Picture]) -> FloatArray:
        """As `vectors`, with fewer states of each picture."""
        import torch

        from mmseek.models.token_reduction import Row, read

        with torch.inference_mode():
            seen = iter(self._see(pictures))
            rows = [
                Row(
                    tokens=payload.tokens,
                    positions=np.arange(len(payload.tokens)),
                    is_picture=payload.tokens == self.model.config.image_token_id,
                    pictures=[next(seen) for _ in payload.pictures],
                    sizes=[picture.states for picture in payload.pictures],
                )
                for payload in payloads
            ]
            states = read(self.model, rows, self.device, left=False, deepstack=False)
            last = torch.stack([each[-1] for each in states]).float()
            vectors: FloatArray = torch.nn.functional.normalize(last, dim=1).cpu().numpy()
        return vectors

    def _see(self, pictures: Sequence[Picture]) -> list[Reduced]:
        """What is left of each picture; all go through the tower at once."""
        from mmseek.models.token_reduction import merged, pruned

        assert self.fewer is not None
        inputs, counts = self._visual(pictures), [self.fewer.kept(picture.states) for picture in pictures]
        if self.significance is None:
            out = self.model.get_image_features(**inputs, return_dict=True)
            return [merged(states, (), count) for states, count in zip(out.pooler_output, counts, strict=True)]
        with self.significance.look() as noted:
            out = self.model.get_image_features(**inputs, return_dict=True)
        scored = self.significance.scores(noted, [len(picture.pixels) for picture in pictures], inputs["image_sizes"])
        by_row = self.fewer.method == "rows"
        return [
            pruned(states, (), count, scores, rows if by_row else None)
            for states, count, (scores, rows) in zip(out.pooler_output, counts, scored, strict=True)
        ]

    def _states(self, patches: int, size: tuple[int, int]) -> int:
        """How many states a picture has: the model's own packing is asked, with empty states of one number."""
        import torch

        config = self.model.config
        vision = config.vision_config
        each = (vision.image_size // vision.patch_size) ** 2 + (config.vision_feature_select_strategy == "full")
        _, lengths = self.model.pack_image_features(
            [torch.zeros(patches, each, 1)],
            torch.tensor([size]),
            vision_feature_select_strategy=config.vision_feature_select_strategy,
            image_newline=torch.zeros(1),
        )
        return int(lengths[0])

    def _visual(self, pictures: Sequence[Picture]) -> dict[str, torch.Tensor]:
        import torch

        shape = (len(pictures), max(len(picture.pixels) for picture in pictures), *pictures[0].pixels.shape[1:])
        pixels = np.zeros(shape, dtype=np.float32)
        for row, picture in enumerate(pictures):
            pixels[row, : len(picture.pixels)] = picture.pixels
        return {
            "pixel_values": torch.from_numpy(pixels).to(self.device, self.model.dtype),
            "image_sizes": torch.tensor([picture.size for picture in pictures], device=self.device),
        }


class LlavaNextEncoder(SequenceEncoder[LlavaNext]):
    """What the encoders on LLaVA-NeXT share. A family says in `prepare` what the model reads. Thread-safe."""

    # A picture is up to 2,928 tokens with the published sizes.
    cpu_budget = Budget(3072)

    def forward(self, kind: str, payloads: Sequence[LlavaInputs]) -> FloatArray:
        """Vectors (n, dim), float32, L2-normalised."""
        del kind
        return self._checkpoint.vectors(payloads)


def load_llava_next(spec: Spec, *, device: str | None, recipe: str) -> LlavaNext:
    """Load a checkpoint from its folder or the hub: scaled dot product attention, see `pick_dtype`.

    Args:
        spec: which model.
        device: see `load_encoder`.
        recipe: what besides the files decides the vectors, for the fingerprint.

    Raises:
        SpecError: the spec names no model.
        ModelError: the checkpoint is missing, of another kind or not whole.
    """
    from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil

    chosen = pick_device(device)
    whole, adapter = split_adapter(spec)
    folder = find_checkpoint(whole)
    kind = json_object(folder / "config.json").get("model_type")
    if kind != "llava_next":
        raise ModelError(f"{folder} is a {kind} model, and {spec.family} runs llava_next: use another family")
    model = load_model(folder, "LlavaNextForConditionalGeneration", chosen, adapter)
    tokenizer = load_tokenizer(folder, None)
    if tokenizer.token_to_id(IMAGE_TOKEN) != model.config.image_token_id:
        raise ModelError(f"the tokenizer of {folder} does not know {IMAGE_TOKEN} as the model does: get it again")
    pictures_file, pictures = picture_settings(folder)
    side = model.config.vision_config.image_size
    processor = LlavaNextImageProcessorPil(
        size={"shortest_edge": side},
        crop_size={"height": side, "width": side},
        image_mean=list(colours(pictures, "image_mean", pictures_file)),
        image_std=list(colours(pictures, "image_std", pictures_file)),
        resample=int(pictures.get("resample", 3)),
        image_grid_pinpoints=[list(pair) for pair in model.config.image_grid_pinpoints],
    )
    # Without precision and device, so that a collection made on a GPU can be searched on a CPU.
    files = [*weight_files(folder), folder / "config.json", folder / "tokenizer.json", pictures_file]
    fingerprint = adapted_fingerprint(files_sha256(files, recipe=with_fewer(recipe, spec)), adapter)
    fewer = spec.visual_tokens
    return LlavaNext(model, tokenizer, processor, chosen, fingerprint, fewer, _significance(model, fewer))


def _significance(model: Any, fewer: VisualTokens | None) -> LlavaSignificance | None:
    if fewer is None or fewer.method == "merge":
        return None
    from mmseek.models.significance import LlavaSignificance

    return LlavaSignificance(model)
