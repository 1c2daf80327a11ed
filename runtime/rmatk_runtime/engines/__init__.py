"""TensorRT engines of a bundle: what each was built for, where they lie, and which of them run here."""

from __future__ import annotations
