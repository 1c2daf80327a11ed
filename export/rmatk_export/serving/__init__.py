"""A bundle for inference servers: Triton's model repository, DeepStream's nvinfer configuration."""

from __future__ import annotations
