"""The text that UniIR reads, byte for byte."""

import pytest

from mmseek.embed.uniir_clip import clean_text, render_text


@pytest.mark.parametrize(
    ("text", "instruction", "prompt"),
    [
        ("a cat", "find an image", "Find an image. a cat."),
        ("a cat?", "Find an image!", "Find an image! a cat?"),
        ('"a cat"\r\n', None, "A cat."),
        ("", "find a caption", "Find a caption."),
        ('"what is it?"', "Answer", 'Answer. "what is it?'),
        (" two dogs. ", None, "Two dogs."),
        ("", None, ""),
        (' "" ', None, ""),
    ],
)
def test_prompts(text: str, instruction: str | None, prompt: str) -> None:
    assert render_text(text, instruction) == prompt


def test_cleaning_twice_changes_nothing_more() -> None:
    for text in ("a", '"A b"', "x?", "ß.", "été", "1 2"):
        assert clean_text(clean_text(text)) == clean_text(text)
