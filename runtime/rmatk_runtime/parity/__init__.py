"""Parity: does a stage give what PyTorch gave? Stages, their comparison, and the one loop over candidates."""
