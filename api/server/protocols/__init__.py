"""The requests and answers of other systems, so that their clients work here unchanged."""

from mmseek.api.server.protocols import cohere, openai, rerank, score, tei, voyage

ROUTERS = (openai.router, cohere.router, voyage.router, tei.router, rerank.router, score.router)

__all__ = ["ROUTERS"]
