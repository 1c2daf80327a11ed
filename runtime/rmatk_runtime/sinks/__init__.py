"""Where predictions go: JSON lines, CSV, annotated video, annotated images, lines on a terminal.

The modules ``window``, ``webhook`` and ``mqtt`` are imported by those who want them: their imports take time.
"""

from __future__ import annotations

from rmatk_runtime.sinks.base import Sink
from rmatk_runtime.sinks.csv import CsvSink
from rmatk_runtime.sinks.images import ImagesSink
from rmatk_runtime.sinks.jsonl import JsonlSink
from rmatk_runtime.sinks.terminal import TerminalSink
from rmatk_runtime.sinks.video import VideoSink

__all__ = ["CsvSink", "ImagesSink", "JsonlSink", "Sink", "TerminalSink", "VideoSink"]
