"""Embeddings of the graph of known and mined edges."""
