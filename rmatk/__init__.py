"""Train few-shot CLIP adapters, evaluate them, and drive the whole way from the command line."""

from rmatk_runtime import __version__

__all__ = ["__version__"]
