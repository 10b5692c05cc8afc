"""BERT's uncased word pieces, cut after 256, without reading more of a text than that takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import BertProcessing

__all__ = ["MAX_TOKENS", "WordPieces"]

MAX_TOKENS: Final = 256
_UNKNOWN: Final = "[UNK]"
_SPECIAL: Final = ("[PAD]", _UNKNOWN, "[CLS]", "[SEP]", "[MASK]")
# Of English, 256 word pieces are about 1,300 characters.
_FIRST_LOOK: Final = 2048
_SPACES: Final = (" ", "\n", "\t")


class WordPieces:
    """Text -> word piece numbers, `[CLS]` first and `[SEP]` last. Safe to call from several threads."""

    def __init__(self, vocabulary: Mapping[str, int]) -> None:
        self._tokenizer = Tokenizer(WordPiece(dict(vocabulary), unk_token=_UNKNOWN, max_input_chars_per_word=100))
        self._tokenizer.normalizer = BertNormalizer(lowercase=True)
        self._tokenizer.pre_tokenizer = BertPreTokenizer()
        self._tokenizer.post_processor = BertProcessing(("[SEP]", vocabulary["[SEP]"]), ("[CLS]", vocabulary["[CLS]"]))
        self._tokenizer.add_special_tokens(list(_SPECIAL))
        self._tokenizer.enable_truncation(MAX_TOKENS)

    def __call__(self, text: str) -> list[int]:
        """At most `MAX_TOKENS` numbers.

        Word pieces never reach across white space, so once the text up to some space fills the limit, what follows
        cannot change them.
        """
        look = _FIRST_LOOK
        while look < len(text):
            end = max(text.rfind(space, 0, look) for space in _SPACES)
            if end > 0:
                ids = self._ids(text[:end])
                if len(ids) == MAX_TOKENS:
                    return ids
            look *= 4
        return self._ids(text)

    def _ids(self, text: str) -> list[int]:
        # JSON can spell lone surrogates, which no tokenizer takes.
        clean = text.encode("utf-8", "replace").decode("utf-8")
        ids: list[int] = self._tokenizer.encode(clean).ids
        return ids
