"""Inference engines behind one contract."""

from rmatk_runtime.backends.base import Backend

__all__ = ["Backend"]
