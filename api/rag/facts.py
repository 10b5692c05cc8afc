"""What a document says of itself in a framework's metadata, and the content that such metadata stands for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from mmseek._types import Content, Document, Image
from mmseek.media import MIME_TYPES, recognise

__all__ = ["KEYS", "content_of", "own_metadata", "picture_kind", "picture_metadata"]

KEYS: Final = (
    "image_path",
    "image_paths",
    "image_url",
    "image_urls",
    "mime_type",
    "modality",
    "video_path",
    "video_frames",
)
_SIGNATURE_BYTES: Final = 16
_FRAMES: Final = 8


def picture_metadata(document: Document) -> dict[str, Any]:
    """Where a document's pictures are, never their bytes: nothing for a text.

    `image_path` (or `image_url`, of a service) is the first picture, `image_paths` (`image_urls`) all of them, if there
    are several; `mime_type` is the first one's, where it can be read here; `modality` is `image` or `image,text`. Of a
    video, `video_path` is its file and `video_frames` how many frames are looked at.
    """
    images = document.content.images
    if not images:
        return {}
    found: dict[str, Any] = {"modality": document.content.modality}
    video = next((image for image in images if image.frame is not None and image.path is not None), None)
    if video is not None and video.path is not None and video.frame is not None:
        found |= {"video_path": str(video.path.absolute()), "video_frames": video.frame[1]}
    images = tuple(image for image in images if image.frame is None)
    for key, places in (
        ("image_path", [str(image.path.absolute()) for image in images if image.path is not None]),
        ("image_url", [image.url for image in images if image.url is not None]),
    ):
        if places:
            found[key] = places[0]
        if len(places) > 1:
            found[f"{key}s"] = places
    mime = picture_kind(images[0]) if images else None
    return {**found, "mime_type": mime} if mime is not None else found


def picture_kind(image: Image) -> str | None:
    """The MIME type of a picture, from its first bytes; None if they cannot be read here or are no picture's."""
    head = image.data or b""
    if image.path is not None:
        try:
            with image.path.open("rb") as file:
                head = file.read(_SIGNATURE_BYTES)
        except OSError:
            return None  # the picture is gone; whoever opens it is told so
    kind = recognise(head)
    return None if kind is None else MIME_TYPES[kind]


def content_of(text: str, metadata: Mapping[str, Any]) -> Content:
    """The content of a framework's document: the pictures that its metadata names, then its text."""
    paths, urls = _places(metadata, "image_path"), _places(metadata, "image_url")
    pictures = [Image(path=Path(path)) for path in paths] or [Image(url=url) for url in urls]
    for video in _places(metadata, "video_path"):
        frames = metadata.get("video_frames")
        pictures += (
            Content.frames(Path(video), frames).images
            if isinstance(frames, int)
            else Content.frames(Path(video)).images
        )
    return Content.of(*pictures, *((text,) if text.strip() or not pictures else ()))


def own_metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata of a framework's document without what `picture_metadata` adds again."""
    if not any(_places(metadata, key) for key in ("image_path", "image_url", "video_path")):
        return dict(metadata)
    return {key: value for key, value in metadata.items() if key not in KEYS}


def _places(metadata: Mapping[str, Any], key: str) -> list[str]:
    several, one = metadata.get(f"{key}s"), metadata.get(key)
    if isinstance(several, list | tuple) and several and all(isinstance(place, str) and place for place in several):
        return list(several)
    return [one] if isinstance(one, str) and one else []
