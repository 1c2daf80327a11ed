"""The tiny run as it is quantised."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import onnx

    from rmatk.backbones.backbone import Backbone
    from rmatk.run import Run
    from rmatk_export.export_input import ExportSource


@pytest.fixture(scope="session")
def int8_source(tiny_run: Run, tiny: Backbone) -> ExportSource:
    """Calibration photos and all."""
    from rmatk.deployment.from_run import export_source

    return export_source(tiny_run, tiny, golden=8, precisions=("fp32", "int8"))


@pytest.fixture(scope="session")
def model(int8_source: ExportSource) -> onnx.ModelProto:
    """Its float32 image graph; nobody changes it."""
    from rmatk_export.fold import fold
    from rmatk_export.graph.encoder import image_graph

    return image_graph(fold(int8_source.image))
