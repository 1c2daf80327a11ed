"""Parity against the trained PyTorch model, on given photos."""
