"""The bytes that the models read."""

import pytest

from mmseek import Content, EncodeRequest, Image
from mmseek._types import Part, Role, Text
from mmseek.embed import gme, qwen3_vl, vlm2vec
from mmseek.errors import InputError

PICTURE = Image(data=b"never decoded")
QUESTION = "Represent the given image with the following question:"


def content(*parts: str | Part) -> Content:
    return Content.of(*parts)


@pytest.mark.parametrize(
    ("parts", "instruction", "expected"),
    [
        (
            (PICTURE, "What is in the image"),
            QUESTION,
            "<|image_pad|> Represent the given image with the following question: What is in the image",
        ),
        (
            (PICTURE, "What is in the image"),
            f"{QUESTION} ",
            "<|image_pad|> Represent the given image with the following question: What is in the image",
        ),
        ((PICTURE,), "Represent the given image.", "<|image_pad|> Represent the given image."),
        (("A cat and a dog",), "", "A cat and a dog"),
        (("A cat",), "Find me an image:", "Find me an image: A cat"),
        (
            (PICTURE, "How many dogs?\n"),
            f"\n{QUESTION}",
            "<|image_pad|>\nRepresent the given image with the following question: How many dogs?\n",
        ),
        ((PICTURE,), "Represent the given image.\n", "<|image_pad|> Represent the given image.\n"),
        ((PICTURE, PICTURE), "Represent the given images.", "<|image_pad|> <|image_pad|> Represent the given images."),
        (("first", PICTURE, "second"), "Look:", "Look: first <|image_pad|> second"),
        ((PICTURE, "one", PICTURE, "two"), "Look:", "<|image_pad|> Look: one <|image_pad|> two"),
        ((PICTURE, ""), "Look.", "<|image_pad|> Look."),
    ],
)
def test_vlm2vec(parts: tuple[str | Part, ...], instruction: str, expected: str) -> None:
    assert vlm2vec.render(content(*parts), instruction) == expected


@pytest.mark.parametrize(
    ("role", "parts", "expected"),
    [
        ("query", (PICTURE,), "<|image_pad|> Represent the given image."),
        ("document", (PICTURE,), "<|image_pad|> Represent the given image."),
        ("query", (PICTURE, "why"), f"<|image_pad|> {QUESTION} why"),
        ("document", (PICTURE, "why"), "<|image_pad|> Represent the given image with related text information: why"),
        ("query", ("why",), "why"),
        ("document", ("why",), "why"),
    ],
)
def test_what_vlm2vec_says_without_an_instruction(role: Role, parts: tuple[str | Part, ...], expected: str) -> None:
    encoder = vlm2vec.Vlm2VecEncoder.__new__(vlm2vec.Vlm2VecEncoder)
    assert encoder.prompt(EncodeRequest(content(*parts), role)) == expected


def test_vlm2vec_needs_content() -> None:
    encoder = vlm2vec.Vlm2VecEncoder.__new__(vlm2vec.Vlm2VecEncoder)
    with pytest.raises(InputError, match="neither text nor image"):
        encoder.prompt(EncodeRequest(Content(()), "query", "Find it"))


@pytest.mark.parametrize(
    ("parts", "instruction", "system", "user"),
    [
        (("A cat and a dog",), None, "Represent the user's input.", "A cat and a dog"),
        (("A cat",), "", "Represent the user's input.", "A cat"),
        (("A cat",), "  ", "Represent the user's input.", "A cat"),
        (("A cat",), " Retrieve similar pictures  ", "Retrieve similar pictures.", "A cat"),
        (("A cat",), "Find the answer!", "Find the answer!", "A cat"),
        (("A cat",), "找到答案。", "找到答案。", "A cat"),
        (("A cat",), "cost < 3 $", "cost < 3 $.", "A cat"),
        ((PICTURE, "what?"), None, "Represent the user's input.", "<|vision_start|><|image_pad|><|vision_end|>what?"),
        (
            ("a ", PICTURE, " b"),
            None,
            "Represent the user's input.",
            "a <|vision_start|><|image_pad|><|vision_end|> b",
        ),
        ((), None, "Represent the user's input.", "NULL"),
        (("",), None, "Represent the user's input.", "NULL"),
    ],
)
def test_qwen3_vl(parts: tuple[str | Part, ...], instruction: str | None, system: str, user: str) -> None:
    expected = f"<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n{user}<|im_end|>\n<|im_start|>assistant\n"
    assert qwen3_vl.render(content(*parts), instruction) == expected


@pytest.mark.parametrize(
    ("role", "parts", "instruction", "system", "user"),
    [
        ("query", ("A cat",), None, "You are a helpful assistant.", "A cat"),
        ("query", ("A cat",), "Find a picture", "Find a picture", "A cat"),
        ("document", ("A cat",), "Find a picture", "You are a helpful assistant.", "A cat"),
        (
            "document",
            (PICTURE, "A cat"),
            None,
            "You are a helpful assistant.",
            "<|vision_start|><|image_pad|><|vision_end|>A cat",
        ),
        ("query", ("a", PICTURE), "", "You are a helpful assistant.", "a<|vision_start|><|image_pad|><|vision_end|>"),
    ],
)
def test_gme(role: Role, parts: tuple[str | Part, ...], instruction: str | None, system: str, user: str) -> None:
    encoder = gme.GmeEncoder.__new__(gme.GmeEncoder)
    expected = (
        f"<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n{user}<|im_end|>\n"
        "<|im_start|>assistant\n<|endoftext|>"
    )
    assert encoder.prompt(EncodeRequest(content(*parts), role, instruction)) == expected


def test_gme_needs_content() -> None:
    with pytest.raises(InputError, match="neither text nor image"):
        gme.GmeEncoder.__new__(gme.GmeEncoder).prompt(EncodeRequest(Content(()), "query", "Find it"))


def test_the_parts_are_kept_as_they_are() -> None:
    assert "\n  two\n" in vlm2vec.render(Content((Text("one"), Text("\n  two\n"))), "")
