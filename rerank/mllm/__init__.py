"""Rerankers on multimodal language models: one forward pass a pair, pictures seen once, shared beginnings read once."""
