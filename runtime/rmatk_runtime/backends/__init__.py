"""Inference engines behind one contract, and the choice among them."""

from __future__ import annotations

from rmatk_runtime.backends.base import Backend
from rmatk_runtime.backends.selection import BACKENDS, engines_here, open_backend, open_engine, open_graph

__all__ = ["BACKENDS", "Backend", "engines_here", "open_backend", "open_engine", "open_graph"]
