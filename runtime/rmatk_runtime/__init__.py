"""Bundles to predictions, without torch: the part of the toolkit that runs on a device."""

__version__ = "0.1.0"

__all__ = ["__version__"]
