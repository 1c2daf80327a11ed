"""Procedurally rendered, captioned scenes: what the embedded backbone is pretrained on. Torch-free."""

from __future__ import annotations

from rmatk.scenes.captions import caption, prompt
from rmatk.scenes.draw import draw_scene
from rmatk.scenes.render import Scene, render

__all__ = ["Scene", "caption", "draw_scene", "prompt", "render"]
