"""Task instructions by name: `task:cirr` for the sentence that a model was trained with.

`mbeir/NAME` is the first of the four prompts that M-BEIR (Wei et al. 2023, arXiv:2311.17136) has for a task, and
`mmeb/NAME` the query's instruction in MMEB (Jiang et al. 2024, arXiv:2410.05160), to the last space. A name alone is
M-BEIR's, or MMEB's where M-BEIR has none. UniIR was trained with the former, VLM2Vec with the latter.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from mmseek.errors import SpecError

__all__ = ["INSTRUCTIONS", "TASK_PREFIX", "resolve_instruction"]

TASK_PREFIX: Final = "task:"

_PARAGRAPH: Final = "Retrieve a Wikipedia paragraph that provides an answer to the given query about the image."
_PAIR: Final = "Retrieve a Wikipedia image-description pair that provides evidence for the question of this image."
_MBEIR: Final = {
    "visualnews_t2i": "Identify the news-related image in line with the described event.",
    "mscoco_t2i": "Find me an everyday image that matches the given caption.",
    "fashion200k_t2i": "Based on the following fashion description, retrieve the best matching image.",
    "webqa_t2t": "Retrieve passages from Wikipedia that provide answers to the following question.",
    "edis": "Find a news image that matches the provided caption.",
    "webqa_t2it": "Find a Wikipedia image that answers this question.",
    "visualnews_i2t": "Find a caption for the news in the given photo.",
    "mscoco_i2t": "Find an image caption describing the following everyday image.",
    "fashion200k_i2t": "Find a product description for the fashion item in the image.",
    "nights": "Find a day-to-day image that looks similar to the provided image.",
    "oven_it2t": _PARAGRAPH,
    "infoseek_it2t": _PARAGRAPH,
    "fashioniq": "Find a fashion image that aligns with the reference image and style note.",
    "cirr": "Retrieve a day-to-day image that aligns with the modification instructions of the provided image.",
    "oven_it2it": _PAIR,
    "infoseek_it2it": _PAIR,
}
_MMEB: Final = {
    "classification": "Represent the given image for classification",
    "sun397": "Identify the scene shown in the image",
    "voc2007": "Identify the object shown in the image",
    "vqa": "Represent the given image with the following question: ",
    "refcoco": "Select the portion of the image that follows the language expressions. ",
    "visual7w_pointing": "Select the portion of the image that answers the question ",
    "visdial": "Represent the given dialogue about an image, which is used for image retrieval: ",
    "cirr": "Given an image, find a similar everyday image with the described changes: ",
    "fashioniq": "Find an image to match the fashion image and style note: ",
    "nights": "Find a day-to-day image that looks similar to the provided image.",
    "webqa": "Find a Wikipedia image that answers this question: ",
    "edis": "Find a news image that matches the provided caption: ",
    "oven": "Retrieve a Wikipedia image-description pair that provides evidence for the question of this image: ",
    "wiki_ss_nq": "Find the document image that can answer the given query: ",
    "mscoco_i2t": "Find an image caption describing the given everyday image.",
    "mscoco_t2i": "Find me an everyday image that matches the given caption: ",
    "visualnews_i2t": "Find a caption for the news in the given photo.",
    "visualnews_t2i": "Retrieve an image of this news caption. ",
}

INSTRUCTIONS: Final[Mapping[str, str]] = MappingProxyType(
    {**_MMEB, **_MBEIR}
    | {f"mbeir/{name}": text for name, text in _MBEIR.items()}
    | {f"mmeb/{name}": text for name, text in _MMEB.items()}
)
"""Every name that may follow `task:`, in lower case, and its sentence."""


def resolve_instruction(text: str) -> str:
    """The sentence that `task:NAME` names; any other text as it is.

    Names may be written in any case and with hyphens for underscores.

    Raises:
        SpecError: no task is named so.
    """
    if not text.startswith(TASK_PREFIX):
        return text
    name = text.removeprefix(TASK_PREFIX).strip().lower().replace("-", "_")
    if name in INSTRUCTIONS:
        return INSTRUCTIONS[name]
    near = difflib.get_close_matches(name, INSTRUCTIONS, n=4, cutoff=0.5) or sorted({**_MMEB, **_MBEIR})
    raise SpecError(
        f"no task is named {name!r}: {', '.join(f'{TASK_PREFIX}{each}' for each in near)} are, "
        "or write the instruction out"
    )
