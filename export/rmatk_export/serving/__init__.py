"""A bundle as inference servers read it: Triton's model repository, DeepStream's nvinfer configuration."""

from __future__ import annotations
