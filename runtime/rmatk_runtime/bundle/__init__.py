"""Bundles: manifest, class matrix, golden set; opened only when every file is whole and unchanged."""

from __future__ import annotations

from rmatk_runtime.bundle.reader import Bundle, read_manifest

__all__ = ["Bundle", "read_manifest"]
