"""A small corpus and a few queries that show what mmseek does, with nothing to download."""

from mmseek.demo.corpus import build_demo_corpus
from mmseek.demo.queries import DemoQuery, demo_queries

__all__ = ["DemoQuery", "build_demo_corpus", "demo_queries"]
