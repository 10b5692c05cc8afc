"""What the components that hold a model write into a saved pipeline."""

from __future__ import annotations

from typing import Any

from haystack import default_to_dict

from mmseek.errors import InputError


def saved(component: object, model: str, **settings: Any) -> dict[str, Any]:
    """The settings of a component whose argument `model` is a spec.

    Raises:
        InputError: the model was given as an object.
    """
    if not isinstance(settings[model], str):
        raise InputError(f"a component with a loaded {model} cannot be saved: make it with the {model}'s spec")
    found: dict[str, Any] = default_to_dict(component, **settings)
    return found
