"""What was found beside the inputs: processors outside the mask, linked data files, transposed arrays."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import rmatk_export.graph.storage
from rmatk_export.graph.storage import load_graph, save_graph
from rmatk_runtime.errors import ExportError
from rmatk_runtime.platform import usable_cores

THREADS = """
import os, sys, time
from pathlib import Path
from rmatk_runtime.onnx_runtime.backend import create_session
session = create_session(Path(sys.argv[1]))
masks = {frozenset(os.sched_getaffinity(int(task))) for task in os.listdir("/proc/self/task")}
print(sorted(sorted(mask) for mask in masks))
"""


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one CPU is the whole mask")
def test_workers_of_onnx_runtime_stay_in_the_mask_of_the_process(tiny_bundle: Path):
    """e04a74c: workers bound to processors outside of ``taskset -c 0``."""
    allowed = sorted(os.sched_getaffinity(0))[:1]
    found = subprocess.run(
        ["taskset", "-c", str(allowed[0]), sys.executable, "-c", THREADS, tiny_bundle / "image_encoder.onnx"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.strip() == str([allowed])


def test_cores_are_counted_by_the_mask(monkeypatch, tmp_path):
    monkeypatch.setattr("rmatk_runtime.platform._CPUS", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 4, 5})
    assert usable_cores() == 4
    for cpu, siblings in ((0, "0,4"), (4, "0,4"), (1, "1,5"), (5, "1,5")):
        place = tmp_path / f"cpu{cpu}" / "topology"
        place.mkdir(parents=True)
        (place / "thread_siblings_list").write_text(siblings + "\n")
    assert usable_cores() == 2


@pytest.fixture
def apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, np.ndarray]:
    """A graph whose weight is in ``graph.onnx.data``."""
    monkeypatch.setattr(rmatk_export.graph.storage, "LIMIT", 0)
    weight = np.random.default_rng(0).normal(size=(40, 30)).astype(np.float32)
    images, embeddings = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, size])
        for name, size in (("images", 40), ("embeddings", 30))
    )
    node = helper.make_node("MatMul", ["images", "w"], ["embeddings"])
    graph = helper.make_graph([node], "g", [images], [embeddings], [numpy_helper.from_array(weight, "w")])
    save_graph(helper.make_model(graph), tmp_path / "graph.onnx")
    return tmp_path / "graph.onnx", weight


@pytest.mark.parametrize("how", ["hard link", "link", "plain"])
def test_a_linked_data_file_is_read(apart, tmp_path, how):
    """e04a74c: onnx's ValidationError as a traceback, though ONNX Runtime opens the graph."""
    path, weight = apart
    data = path.with_name("graph.onnx.data")
    if how == "hard link":
        os.link(data, tmp_path / "second name")
    elif how == "link":
        data.rename(tmp_path / "elsewhere")
        data.symlink_to(tmp_path / "elsewhere")
    (read,) = load_graph(path).graph.initializer
    np.testing.assert_array_equal(numpy_helper.to_array(read), weight)


def test_a_data_file_outside_the_folder_or_cut_short_is_refused(apart):
    path, _ = apart
    data = path.with_name("graph.onnx.data")
    data.write_bytes(data.read_bytes()[:-1])
    with pytest.raises(ExportError, match="cut short"):
        load_graph(path)
    model = onnx.load(str(path), load_external_data=False)
    model.graph.initializer[0].external_data[0].value = "../graph.onnx.data"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ExportError, match="outside its folder"):
        load_graph(path)


def test_weights_of_any_memory_order_are_written_as_they_are(tmp_path, tiny_run, tiny):
    """safetensors 0.8.0 writes transposed NumPy arrays scrambled, without a word: rmatk gives it none."""
    import torch

    from rmatk.method.adapter import adapter_params
    from rmatk.run import load_run, restore

    model = restore(tiny_run, tiny)
    with torch.no_grad():
        for parameter in adapter_params(model).values():
            if parameter.ndim == 2:  # the same numbers, stored column by column
                parameter.data = parameter.t().contiguous().t()
    state = model.adapter_state()
    assert all(value.flags.c_contiguous for value in state.values())
    from safetensors import numpy as safetensors

    (tmp_path / "adapter").write_bytes(safetensors.save(state))
    for name, value in safetensors.load_file(tmp_path / "adapter").items():
        np.testing.assert_array_equal(value, load_run(tiny_run.path).adapter[name])
