"""Keep libraries quiet: progress bars and notes of others are no part of our output."""

from __future__ import annotations

import logging
import os
import warnings

_LIBRARIES = ("transformers", "sentence_transformers", "huggingface_hub", "torch", "httpx", "PIL", "faiss")


def hush() -> None:
    """Silence libraries before they are imported. A setting that the user made in the environment is left alone."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    # Tokenizers warns when a process that used it forks.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    for name in _LIBRARIES:
        logging.getLogger(name).setLevel(logging.ERROR)
    if "PYTHONWARNINGS" not in os.environ:
        warnings.simplefilter("ignore")
