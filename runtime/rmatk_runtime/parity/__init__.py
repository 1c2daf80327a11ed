"""Parity: embeddings of two implementations compared, in terms of predictions."""
