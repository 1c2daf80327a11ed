"""A small CLIP with LayerScale in both towers, on its way through the commands as typed.

Each test changes one function or one file. ``rmatk export`` must fail and leave nothing behind,
``rmatk parity`` must end with exit code 3, and the message must name the right stage or proof.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from rmatk.backbones.backbone import Backbone
from rmatk.run import Run
from rmatk_export.weights import FoldedTower, ImageStem

CommandLine = Callable[..., tuple[int, str, str]]
Change = Callable[[onnx.ModelProto], None]


@pytest.fixture(scope="module")
def backbone(tiny_clip) -> Backbone:
    """LayerScale far from one, so that leaving it out cannot pass."""
    clip: Backbone = tiny_clip(seed=5, vision={"ls_init_value": 0.3}, ls_init_value=0.2)
    return clip


@pytest.fixture(scope="module")
def run(backbone: Backbone, draw_photos, tmp_path_factory: pytest.TempPathFactory) -> Run:
    from rmatk.config import TrainConfig
    from rmatk.training.train import train

    root = tmp_path_factory.mktemp("mutations")
    photos = draw_photos(root / "photos", {"red_stripe": 6, "green_check": 6, "blue_dot": 6})
    config = TrainConfig(model=backbone.name, shots=6, epochs=2, lr=0.02, rank=4)
    return train(config, backbone, photos, root / "run")


@pytest.fixture(scope="module")
def sound(run: Run, backbone: Backbone, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle when nothing is changed."""
    from rmatk.deployment.from_run import export_source
    from rmatk_export.bundle_writer import write_bundle

    path = tmp_path_factory.mktemp("sound") / "bundle"
    write_bundle(export_source(run, backbone, golden=8), path)
    return path


@pytest.fixture(autouse=True)
def loaded(backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line finds this backbone, whatever name the run gives."""
    monkeypatch.setattr("rmatk.backbones.backbone.load_backbone", lambda *names: backbone)


@pytest.fixture
def refused(rmatk: CommandLine, run: Run, tmp_path: Path) -> Callable[..., str]:
    """Exports and expects it to fail with this exit code -> the message."""

    def export(code: int, *options: str) -> str:
        out = tmp_path / "out" / "bundle"
        out.parent.mkdir()
        found, _, error = rmatk("export", run.path, "-o", out, "--golden", 8, *options)
        assert found == code, error
        assert list(out.parent.iterdir()) == []
        return error

    return export


@pytest.fixture
def change_graph(monkeypatch: pytest.MonkeyPatch) -> Callable[[Change], None]:
    """Changes every image graph as it is written, before anything looks at it."""
    from rmatk_export import bundle_writer as bundle

    written = bundle.image_graph

    def install(change: Change) -> None:
        def changed(tower: FoldedTower[ImageStem], **options: bool) -> onnx.ModelProto:
            model = written(tower, **options)
            change(model)
            return model

        monkeypatch.setattr(bundle, "image_graph", changed)

    return install
