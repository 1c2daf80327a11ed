"""Imports every command module, each of which registers its command on the application."""

from rmatk.cli import doctor, infer

__all__ = ["doctor", "infer"]
