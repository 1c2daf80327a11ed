"""Frozen CLIP backbones by name."""
