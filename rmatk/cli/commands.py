"""Imports every command module, each of which registers its command on the application."""

from rmatk.cli import doctor, evaluate, infer, train

__all__ = ["doctor", "evaluate", "infer", "train"]
