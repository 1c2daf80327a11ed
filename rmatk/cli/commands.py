"""Imports every command module, each of which registers its command on the application."""

from rmatk.cli import doctor, evaluate, export, infer, info, parity, train

__all__ = ["doctor", "evaluate", "export", "infer", "info", "parity", "train"]
