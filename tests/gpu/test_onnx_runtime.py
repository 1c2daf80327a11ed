"""ONNX Runtime's GPU providers on a real GPU: granted, and equal to PyTorch."""

from __future__ import annotations

import pytest

from rmatk_runtime.bundle import Bundle
from rmatk_runtime.parity.walk import EncoderCandidate, check_golden
from rmatk_runtime.selection import open_backend

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize(
    ("name", "provider"),
    [("cuda", "CUDAExecutionProvider"), ("ort-tensorrt", "TensorrtExecutionProvider")],
)
def test_gives_what_pytorch_gave(bundle: Bundle, name: str, provider: str, precision):
    onnxruntime = pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
    if provider not in onnxruntime.get_available_providers():
        pytest.skip(f"this ONNX Runtime was built without {provider}")
    with open_backend(bundle, name, precision=precision) as backend:
        stages = check_golden(bundle, [EncoderCandidate(backend.name, precision, backend)])
    assert all(stages), [stage.reason for stage in stages if not stage]
