"""`mini`: the reranker that needs no download."""
