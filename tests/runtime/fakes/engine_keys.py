"""Keys of engines that were never built."""

from __future__ import annotations

import msgspec

from rmatk_runtime.bundle import Bundle
from rmatk_runtime.tensorrt.key import BatchProfile, EngineKey


def key_of(bundle: Bundle, file: str = "image_encoder.onnx", **changes: object) -> EngineKey:
    """The key of a float32 engine of ``file`` for an Orin with TensorRT 10.3, but for ``changes``."""
    on_orin = EngineKey(
        flavour="tensorrt",
        tensorrt="10.3.0",
        machine="aarch64",
        gpu="Orin",
        compute_capabilities=("8.7",),
        precision="fp32",
        input="images",
        batch=BatchProfile(1, 1, 8),
        onnx_sha256=bundle.manifest.files[file].sha256,
    )
    return msgspec.structs.replace(on_orin, **changes)
