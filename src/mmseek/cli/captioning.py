"""The options of `mmseek index` for captions, and what they ask for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmseek.errors import InputError

if TYPE_CHECKING:
    from mmseek.pipeline.captioning import Captioner

__all__ = [
    "CaptionCallsOption",
    "CaptionKeyOption",
    "CaptionModelOption",
    "CaptionOption",
    "CaptionPromptOption",
    "captioner_of",
]

CaptionOption = Annotated[
    str | None,
    typer.Option(
        "--caption",
        metavar="URL",
        help="Have pictures described too, by a chat API as OpenAI's: http://localhost:8000/v1, say.",
    ),
]
CaptionModelOption = Annotated[
    str | None,
    typer.Option("--caption-model", metavar="NAME", help="With --caption: the model, as the endpoint knows it."),
]
CaptionKeyOption = Annotated[
    Path | None,
    typer.Option(
        "--caption-key-file", metavar="FILE", help="With --caption: the endpoint's key. [default: the setting's]"
    ),
]
CaptionPromptOption = Annotated[
    str | None, typer.Option("--caption-prompt", metavar="TEXT", help="With --caption: what to say of a picture.")
]
CaptionCallsOption = Annotated[
    int, typer.Option("--caption-calls", metavar="N", min=1, help="With --caption: ask so often at most in this run.")
]


def captioner_of(
    url: str | None, model: str | None, key_file: Path | None, prompt: str | None, calls: int
) -> Captioner | None:
    """Who describes pictures; None if nobody is asked to.

    Raises:
        InputError: there is a model and no URL, or the other way round.
        ConfigError: the URL is none, or the key's file cannot be read.
    """
    if url is None:
        if model or key_file or prompt:
            raise InputError("there are --caption options and no endpoint: add --caption URL, or leave them out")
        return None
    if not model:
        raise InputError("--caption needs to know which model describes pictures: add --caption-model NAME")
    from mmseek.config import settings
    from mmseek.media import MediaLimits
    from mmseek.pipeline.captioning import PROMPT, Captioner
    from mmseek.pipeline.chat import Chat, read_key

    here = settings()
    return Captioner(
        Chat(url, model, read_key(key_file), max_tokens=400),
        here.cache_dir / "captions",
        PROMPT if prompt is None else prompt,
        calls,
        limits=MediaLimits.from_settings(here),
    )
