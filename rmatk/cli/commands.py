"""Imports every command module, each of which registers its command on the application."""

from rmatk.cli import bench, demo, doctor, evaluate, export, infer, info, labels, parity, sign, train

__all__ = [
    "bench",
    "demo",
    "doctor",
    "evaluate",
    "export",
    "infer",
    "info",
    "labels",
    "parity",
    "sign",
    "train",
]
