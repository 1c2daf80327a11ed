"""What rmatk 0.1.0 wrote (tests/fixtures/v1.0) opens, runs, can be edited and is exported again, for good."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from rmatk_runtime.bundle import Bundle
from rmatk_runtime.inference.classifier import Classifier

if TYPE_CHECKING:
    from rmatk.backbones.backbone import Backbone

V1 = Path(__file__).parent / "fixtures" / "v1.0"
DIGEST = "a2b629b18767ced7c0773d1dd9a1f4805813866e5aa201471af915de6356ef9b"

ANSWERS = ["blue dot", "blue dot", "blue dot", "red stripe"]

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A copy of the old bundle."""
    return Path(shutil.copytree(V1 / "bundle", tmp_path / "bundle"))


@pytest.fixture(scope="module")
def backbone(tiny_clip: Callable[..., Backbone]) -> Backbone:
    """The backbone of the old run: its weights come from NumPy's generator, whose stream does not change."""
    import torch

    from rmatk.backbones.backbone import wrap

    made = tiny_clip(vision={"width": 32, "layers": 2}, layers=2)
    draw = np.random.default_rng(1)
    for name, parameter in made.model.named_parameters():
        centre = 1.0 if parameter.ndim == 1 and name.endswith("weight") else 0.0
        values = np.asarray(centre + 0.2 * (2 * draw.random(tuple(parameter.shape)) - 1), np.float32)
        parameter.data.copy_(torch.from_numpy(values))
    made.model.logit_scale.data.fill_(2.5)
    return wrap(made.model, made.tokenize, made.tokenizer_json, made.preprocess, name="tiny", pretrained=None)


@pytest.mark.parametrize("kind", ["bundle", "run"])
def test_info_reads_what_0_1_0_wrote(rmatk: Command, kind: str):
    code, out, err = rmatk("info", V1 / kind, "--json")
    assert code == 0, err
    assert DIGEST[:16] in out


def test_answers_of_a_bundle_of_0_1_0_stay(bundle: Path):
    classifier = Classifier.open(bundle, backend="cpu")
    golden = Bundle.open(bundle).golden()
    assert golden is not None
    found = [prediction.label for prediction in classifier.classify(list(golden.images))]
    assert found == ANSWERS


def test_parity_from_the_golden_set_of_0_1_0(rmatk: Command, bundle: Path):
    code, out, err = rmatk("parity", bundle, "--backend", "cpu", "--json")
    assert code == 0, err
    stages = json.loads(out)["stages"]
    assert len(stages) == 5  # preprocessing; fp32 and fp16, each on images and on pixels
    assert all(stage["passed"] for stage in stages)


def test_labels_of_a_bundle_of_0_1_0_can_be_edited(rmatk: Command, bundle: Path):
    code, _, err = rmatk("labels", bundle, "add", "blue stripe")
    assert code == 0, err
    assert "blue stripe" in Bundle.open(bundle).classes().names


def test_a_run_of_0_1_0_is_exported_again_with_the_same_answers(backbone: Backbone, tmp_path: Path):
    from rmatk.deployment.from_run import export_source
    from rmatk.run import load_run
    from rmatk_export.bundle_writer import write_bundle

    assert backbone.digest == DIGEST
    source = export_source(load_run(V1 / "run"), backbone, golden="rendered")
    write_bundle(source, tmp_path / "bundle")
    old, new = Bundle.open(V1 / "bundle"), Bundle.open(tmp_path / "bundle")
    assert old.classes().names == new.classes().names
    np.testing.assert_allclose(old.classes().embeddings, new.classes().embeddings, atol=1e-5)


def test_the_sidecar_of_an_engine_of_0_1_0(bundle: Path):
    from rmatk_runtime.tensorrt.store import survey

    (bundle / "engines").mkdir()
    shutil.copy(V1 / "engine.json", bundle / "engines" / "old.json")
    (bundle / "engines" / "old.engine").write_bytes(b"not the plan")
    (found,) = survey(bundle=Bundle.open(bundle))
    assert found.engine is not None, found.reasons  # the sidecar was read
    assert any("12 bytes" in reason for reason in found.reasons)


def newer(path: Path, *place: str) -> Path:
    """Turn a file into one of minor version 9 with one more field, at ``place``."""
    data = json.loads(path.read_bytes())
    inner = data
    for name in place[:-1]:
        inner = inner[name]
    data["minor"], inner[place[-1]] = 9, "new"
    path.write_text(json.dumps(data))
    return path


def test_a_bundle_of_a_newer_minor_version_runs_and_what_is_ignored_is_named(
    bundle: Path, caplog: pytest.LogCaptureFixture
):
    newer(bundle / "manifest.json", "provenance", "author")
    assert Bundle.open(bundle).manifest.minor == 9
    assert "newer minor version (1.9); ignored: $.provenance.author" in caplog.text


def test_labels_of_a_newer_bundle_are_not_changed_since_its_fields_would_be_lost(
    rmatk: Command, bundle: Path
):
    before = newer(bundle / "manifest.json", "provenance", "author").read_bytes()
    files = sorted(bundle.iterdir())
    for words in (("add", "blue stripe"), ("rename", "blue dot", "blue spot")):
        code, _, err = rmatk("labels", bundle, *words)
        assert code == 1
        assert "cannot be changed: it has minor version 9" in err and "newer rmatk" in err
    assert (bundle / "manifest.json").read_bytes() == before and sorted(bundle.iterdir()) == files


@pytest.mark.parametrize("section", ["preprocess", "decision"])
def test_a_newer_field_that_decides_on_answers_is_refused(rmatk: Command, bundle: Path, section: str):
    newer(bundle / "manifest.json", section, "order")
    code, _, err = rmatk("info", bundle)
    assert code == 1
    assert f"$.{section}.order" in err and "use a newer rmatk" in err


def test_a_run_of_a_newer_minor_version(rmatk: Command, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    run = Path(shutil.copytree(V1 / "run", tmp_path / "run"))
    newer(run / "run.json", "versions_of_drivers")
    assert rmatk("info", run)[0] == 0
    assert "ignored: $.versions_of_drivers" in caplog.text
    newer(run / "run.json", "config", "method")
    code, _, err = rmatk("info", run)
    assert code == 1 and "$.config.method" in err


def test_what_uses_no_new_field_is_written_as_0_1_0_wrote_it():
    """A new field that ``added`` does not name would be written, and older versions would refuse the file."""
    from rmatk.run import _RECORD
    from rmatk_runtime.bundle.manifest import _MANIFEST
    from rmatk_runtime.tensorrt.store import _SIDECAR

    for form, file in (
        (_MANIFEST, "bundle/manifest.json"),
        (_RECORD, "run/run.json"),
        (_SIDECAR, "engine.json"),
    ):
        data = (V1 / file).read_bytes()
        assert json.loads(form.encode(form.decode(data)[0])) == json.loads(data), file
