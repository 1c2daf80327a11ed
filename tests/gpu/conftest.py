"""Fixtures of the tests that need an NVIDIA GPU; without one they are skipped with the driver's reason."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from rmatk_runtime.bundle import Bundle
from rmatk_runtime.errors import BackendError
from rmatk_runtime.nvidia.driver import Gpu, list_gpus

if TYPE_CHECKING:
    from rmatk.backbones.backbone import Backbone
    from rmatk.run import Run


@pytest.fixture(scope="session")
def gpu() -> Gpu:
    """The GPU that TensorRT and CUDA use."""
    try:
        return list_gpus()[0]
    except BackendError as error:
        pytest.skip(f"no GPU: {error.message}")


@pytest.fixture(scope="session")
def bundle(gpu: Gpu, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The tiny run in every precision. Asks for a GPU first: without one nothing is trained for it."""
    from rmatk.deployment.from_run import export_source
    from rmatk_export.bundle_writer import write_bundle

    run: Run = request.getfixturevalue("tiny_run")
    backbone: Backbone = request.getfixturevalue("tiny")
    path: Path = tmp_path_factory.mktemp("gpu") / "bundle"
    write_bundle(export_source(run, backbone, golden=8, precisions=("fp32", "fp16", "int8")), path)
    return Bundle.open(path)
