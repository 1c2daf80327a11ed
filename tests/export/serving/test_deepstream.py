"""A classifier for nvinfer: the configuration read as nvinfer does, the graph with the bundle's answers."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import msgspec
import numpy as np
import onnxruntime
import pytest

from rmatk_export.serving import deepstream
from rmatk_export.serving.deepstream import write_deepstream
from rmatk_runtime.bundle import Bundle
from rmatk_runtime.bundle.label_head import LabelHead
from rmatk_runtime.bundle.labels import ClassMatrix
from rmatk_runtime.errors import ExportError, MissingExtraError, ParityError, StorageError
from rmatk_runtime.pictures.preprocess import resize
from rmatk_runtime.tensorrt.build import build_plan
from rmatk_runtime.tensorrt.library import load_tensorrt
from rmatk_runtime.tensorrt.options import BuildOptions

# The keys of [property] that nvinfer knows (gst-nvinfer's gstnvinfer_property_parser.h, DeepStream 9).
KEYS = """
    auto-inc-mem batch-size classifier-async-mode classifier-threshold classifier-type cluster-mode
    crop-objects-to-roi-boundary custom-lib-path custom-network-config disable-output-host-copy
    dump-input-tensor dump-output-tensor dynamic-properties enable-dbscan enable-dla engine-create-func-name
    filter-out-class-ids force-implicit-batch-dim gie-unique-id gpu-id infer-dims input-dims
    input-object-max-height input-object-max-width input-object-min-height input-object-min-width
    input-tensor-from-meta int8-calib-file interval ip-tensor-file is-classifier labelfile-path
    layer-device-precision maintain-aspect-ratio max-gpu-mem-per mean-file model-color-format
    model-engine-file model-file net-scale-factor network-input-order network-mode network-type
    num-detected-classes offsets onnx-file op-tensor-files operate-on-class-ids operate-on-gie-id
    output-blob-names output-instance-mask output-io-formats output-tensor-meta overwrite-input-tensor
    overwrite-output-tensor parse-bbox-func-name parse-bbox-instance-mask-func-name
    parse-classifier-func-name parse-segmentation-func-name process-mode proto-file raw-output-file-write
    scaling-compute-hw scaling-filter secondary-reinfer-interval segmentation-output-order
    segmentation-threshold stabilize-buffer-count strongly-typed symmetric-padding tensor-meta-pool-size
    tlt-encoded-model tlt-model-key uff-file uff-input-blob-name uff-input-dims uff-input-order use-dla-core
    warmup-engine workspace-size
"""
# How nvinfer asks GLib for each: what is not named here it asks for as a string.
GETTERS = {
    "double": ["net-scale-factor", "classifier-threshold"],
    "integer": [
        *("gpu-id", "gie-unique-id", "process-mode", "network-type", "batch-size", "network-mode"),
        *("network-input-order", "model-color-format", "scaling-filter"),
    ],
    "boolean": ["maintain-aspect-ratio", "symmetric-padding", "strongly-typed"],
    "integer_list": ["infer-dims"],
    "string_list": ["output-blob-names"],
}
READ = """
import json, sys
from gi.repository import GLib
file, getters = GLib.KeyFile(), json.loads(sys.argv[2])
assert file.load_from_file(sys.argv[1], GLib.KeyFileFlags.NONE)
keys = file.get_keys("property")[0]
how = {key: kind for kind, names in getters.items() for key in names}
read = {key: getattr(file, "get_" + how.get(key, "string"))("property", key) for key in keys}
print(json.dumps({"groups": list(file.get_groups()[0]), "keys": read}, default=list))
"""


@pytest.fixture(scope="module")
def bundle(tiny_bundle: Path) -> Bundle:
    return Bundle.open(tiny_bundle)


@pytest.fixture(scope="module")
def folder(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("served") / "deepstream"
    write_deepstream(bundle, path, batch=4)
    return path


def plain(folder: Path) -> dict[str, str]:
    """The configuration read line by line."""
    lines = (folder / "config_infer.txt").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


def read(folder: Path) -> dict[str, object]:
    """The configuration read by GLib, which is in the system's Python, by the calls that nvinfer makes."""
    command = ["/usr/bin/python3", "-c", READ, str(folder / "config_infer.txt"), json.dumps(GETTERS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["groups"] == ["property"]
    return found["keys"]


def test_the_files_and_no_other_key_than_nvinfers(folder: Path):
    assert {path.name for path in folder.iterdir()} == {
        *("config_infer.txt", "classifier.onnx", "labels.txt", "rmatk-deepstream.json")
    }
    keys = plain(folder)
    assert set(keys) <= set(KEYS.split())
    # An engine of nvinfer's own name for it, so that it is found again; and what is named lies there.
    assert keys["model-engine-file"] == "classifier.onnx_b4_gpu0_fp32.engine"
    assert (folder / keys["onnx-file"]).is_file() and (folder / keys["labelfile-path"]).is_file()


@pytest.mark.debian
def test_glib_reads_the_configuration_as_nvinfer_asks_for_it(folder: Path):
    if subprocess.run(["/usr/bin/python3", "-c", "import gi"], capture_output=True, check=False).returncode:
        pytest.skip("the system's Python has no python3-gi")
    keys = read(folder)
    assert keys["network-type"] == 1 and keys["process-mode"] == 1 and keys["batch-size"] == 4
    assert keys["infer-dims"] == [3, 32, 32] and keys["network-input-order"] == 0
    assert keys["net-scale-factor"] == 1.0 and keys["model-color-format"] == 0
    assert keys["output-blob-names"] == ["probabilities"]
    assert keys["maintain-aspect-ratio"] is False and keys["strongly-typed"] is True


def test_the_graph_is_what_nvinfer_feeds_and_reads(folder: Path, bundle: Bundle):
    session = onnxruntime.InferenceSession(folder / "classifier.onnx")
    (image,), (answer,) = session.get_inputs(), session.get_outputs()
    assert (image.type, image.shape) == ("tensor(float)", ["N", 3, 32, 32])
    assert (answer.name, answer.type, answer.shape) == ("probabilities", "tensor(float)", ["N", 3])
    line = (folder / "labels.txt").read_text()
    assert line.count("\n") == 1 and tuple(line.strip().split(";")) == bundle.classes().names


def test_it_answers_as_pytorch_did(folder: Path, bundle: Bundle):
    golden, manifest = bundle.golden(), bundle.manifest
    assert golden is not None
    pixels = np.stack([resize(picture, manifest.preprocess) for picture in golden.images])
    scale = np.float32(plain(folder)["net-scale-factor"])
    planes = scale * pixels.transpose(0, 3, 1, 2).astype(np.float32)  # nvinfer's y = scale * (x - mean)
    session = onnxruntime.InferenceSession(folder / "classifier.onnx")
    wanted = LabelHead(bundle.classes(), manifest.decision).probabilities(golden.embeddings)
    assert np.abs(session.run(None, {"pixels": planes})[0] - wanted).max() < 1e-5
    assert np.abs(session.run(None, {"pixels": planes[:, ::-1]})[0] - wanted).max() > 1e-2  # BGR is wrong


def test_threshold_and_aspect_are_the_bundles(bundle: Bundle, tmp_path: Path):
    manifest = bundle.manifest
    decision = msgspec.structs.replace(manifest.decision, reject_threshold=0.375)
    longest = msgspec.structs.replace(manifest.preprocess, resize_mode="longest")
    golden = dict(golden=None, decision=decision, preprocess=longest)
    write_deepstream(Bundle(bundle.path, msgspec.structs.replace(manifest, **golden)), tmp_path / "d")
    keys = plain(tmp_path / "d")
    assert (keys["classifier-threshold"], keys["batch-size"]) == ("0.375", "1")
    assert keys["maintain-aspect-ratio"] == keys["symmetric-padding"] == "1"


def test_a_graph_that_answers_otherwise_is_not_left(bundle: Bundle, tmp_path: Path, monkeypatch):
    real = deepstream.with_classes

    def turned(model, classes, decision):
        return real(model, ClassMatrix(classes.names, classes.embeddings[::-1]), decision)

    monkeypatch.setattr(deepstream, "with_classes", turned)
    with pytest.raises(ParityError, match="joined fp32: a probability of"):
        write_deepstream(bundle, tmp_path / "d")
    assert list(tmp_path.iterdir()) == []


def test_labels_with_semicolons_are_refused(bundle: Bundle, tmp_path: Path, monkeypatch):
    classes = bundle.classes()
    odd = ClassMatrix(("red; stripe", *classes.names[1:]), classes.embeddings)
    monkeypatch.setattr(Bundle, "classes", lambda self: odd)
    with pytest.raises(ExportError, match="the label 'red; stripe' cannot be written"):
        write_deepstream(bundle, tmp_path / "d")
    assert list(tmp_path.iterdir()) == []


def test_an_engine_of_yesterdays_graph_goes_with_it(bundle: Bundle, folder: Path, tmp_path: Path):
    ours = Path(shutil.copytree(folder, tmp_path / "ours"))
    (ours / "classifier.onnx_b4_gpu0_fp32.engine").write_bytes(b"yesterday's")
    write_deepstream(bundle, ours, batch=4)
    assert not list(ours.glob("*.engine"))
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "notes.txt").write_text("precious")
    with pytest.raises(StorageError, match="holds other files"):
        write_deepstream(bundle, tmp_path / "theirs")


@pytest.mark.tensorrt
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_tensorrt_builds_the_joined_graph(every_precision: Path, tmp_path: Path, precision: str):
    try:
        trt = load_tensorrt("tensorrt_rtx")
    except MissingExtraError as error:
        pytest.skip(error.message)
    write_deepstream(Bundle.open(every_precision), tmp_path / "d", precision=precision)
    profile = {"pixels": ((1, 3, 32, 32), (4, 3, 32, 32), (4, 3, 32, 32))}
    options = BuildOptions(compute_capabilities=("8.9",))
    plan = build_plan(trt, tmp_path / "d" / "classifier.onnx", profile, options, gpu=None)
    assert len(plan.data) > 10_000
