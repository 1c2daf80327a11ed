"""``rmatk export --trt`` as typed: what goes together, what is written, what is said, what Ctrl-C leaves."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from rmatk.cli.export.options import parse_precisions

CommandLine = Callable[..., tuple[int, str, str]]


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (
            [],
            "is a bundle already; --trt builds engines from it, --triton and --deepstream write what servers",
        ),
        (["--triton", "t", "--pixels"], "--pixels can be given for a run or with --trt only"),
        (["--triton", "t", "--refit"], "--refit can be given with --trt only"),
        (["--triton", "t", "--triton-backend", "onnx"], "--triton-backend takes onnxruntime, tensorrt, not"),
        (["--deepstream", "d", "--name", "birds"], "--name can be given with --triton only"),
        (["--deepstream", "d", "-o", "other"], "--out can be given for a run only"),
        (["--trt", "-o", "other", "--data", "photos"], "--out, --data can be given for a run only"),
        (["--trt", "--golden", "none"], "--golden can be given for a run only"),
        (["--trt", "--batch", "8:4:1"], "--batch: a batch profile is MIN:OPT:MAX"),
        (["--trt", "--flavour", "trt"], "--flavour takes auto, tensorrt, tensorrt_rtx, not 'trt'"),
        (["--trt", "--precision", "int4"], "--precision takes fp32, fp16, int8, not 'int4'"),
        (["--trt", "--hardware-compat", "any"], "--hardware-compat takes none, same_compute_capability"),
        (["--trt", "--compute-capability", "9"], "--compute-capability takes 89 or 8.9, say, not '9'"),
        (["--trt", "--workspace", "0"], "--workspace"),
    ],
)
def test_what_makes_no_sense_for_a_bundle_is_wrong_usage(
    rmatk: CommandLine, bundle: Path, args: list[str], words: str
):
    code, _, error = rmatk("export", bundle, *args)
    assert code == 2 and words in " ".join(error.split())
    assert not (bundle / "engines").exists()


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ([], "say where with -o BUNDLE"),
        (["--trt"], "say where with -o BUNDLE"),
        (["-o", "new", "--refit"], "--refit can be given with --trt only"),
        (["-o", "new", "--batch", "4"], "--batch can be given with --trt, --triton or --deepstream only"),
        (["--triton", "t"], "say where with -o BUNDLE"),
    ],
)
def test_what_makes_no_sense_for_a_run_is_wrong_usage(rmatk: CommandLine, tmp_path, args: list[str], words):
    code, _, error = rmatk("export", tmp_path, *args)
    assert code == 2 and words in " ".join(error.split())


def test_precisions_by_commas_or_one_by_one():
    assert parse_precisions(["int8,fp32", "fp16", "fp32"]) == ("int8", "fp32", "fp16")
    assert parse_precisions(None) == ()


def test_a_source_that_is_not_there(rmatk: CommandLine, tmp_path: Path):
    code, _, error = rmatk("export", tmp_path / "nowhere", "--trt")
    assert code == 1 and "no such run or bundle" in error and " hint: make a run: rmatk train" in error


def test_a_precision_that_the_bundle_lacks(rmatk: CommandLine, bundle: Path):
    pytest.importorskip("tensorrt_rtx")
    code, _, error = rmatk("export", bundle, "--trt", "--flavour", "tensorrt_rtx", "--precision", "fp16")
    assert code == 1 and "holds no fp16 graph" in error


def test_a_flavour_that_is_not_installed(rmatk: CommandLine, bundle: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("tensorrt", "tensorrt_rtx"):
        monkeypatch.setitem(sys.modules, name, None)
    code, _, error = rmatk("export", bundle, "--trt")
    assert (code == 1 and "rmatk doctor" in error) or "pip install 'rmatk[trt]'" in error


def test_a_bundle_for_both_servers(rmatk: CommandLine, bundle: Path, tmp_path: Path):
    repository, folder = tmp_path / "my models", tmp_path / "my folder"
    options = ("--triton", repository, "--deepstream", folder, "--name", "birds", "--batch", "1:2:4")
    code, out, error = rmatk("export", bundle, *options)
    words = " ".join(out.split())
    assert code == 0 and not error
    assert "triton: parity with the bundle's own answers" in words and "deepstream: parity" in words
    assert "birds_image_encoder/1/model.onnx" in words
    assert f"next: tritonserver --model-repository='{repository}'" in words
    assert f"nvinfer config-file-path='{folder}'/config_infer.txt" in words
    assert "max_batch_size: 4" in (repository / "birds" / "config.pbtxt").read_text()
    assert "batch-size=2" in (folder / "config_infer.txt").read_text()
    code, out, _ = rmatk("export", bundle, "--triton", tmp_path / "again", "--json")
    record = json.loads(out)
    assert code == 0 and record["triton"]["folder"] == str(tmp_path / "again")
    assert (tmp_path / "again" / "bundle" / "config.pbtxt").is_file()  # named after the bundle's folder


def test_servers_files_without_onnx(rmatk: CommandLine, bundle: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    code, _, error = rmatk("export", bundle, "--triton", tmp_path / "r")
    assert code == 1 and "onnx" in error and "pip install 'rmatk[export]'" in error
    assert not (tmp_path / "r").exists()


def test_what_a_server_cannot_take_is_a_named_error(rmatk: CommandLine, bundle: Path, tmp_path: Path):
    code, _, error = rmatk("export", bundle, "--triton", tmp_path / "r", "--batch", "2")
    assert code == 1 and "Triton's batches begin at 1" in error and "--batch 1:2:2" in error
    (tmp_path / "photo.jpg").write_text("precious")
    code, _, error = rmatk("export", bundle, "--deepstream", tmp_path)
    assert code == 1 and "holds other files" in " ".join(error.split())


def test_a_run_is_not_exported_for_a_folder_that_will_be_refused(
    rmatk: CommandLine, tiny_run, tmp_path: Path
):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "photo.jpg").write_text("precious")
    for options in (
        ("--triton", tmp_path / "taken"),
        ("--deepstream", tmp_path / "taken"),
        ("--triton", tmp_path / "r", "--name", "a/b"),
        ("--triton", tmp_path / "r", "--batch", "2:2:2"),
    ):
        code, _, error = rmatk("export", tiny_run.path, "-o", tmp_path / "bundle", *options)
        assert code == 1 and "cannot be loaded" not in error and "unknown model" not in error
        assert not (tmp_path / "bundle").exists() and not (tmp_path / "r").exists()


def test_labels_changed_reach_the_server_when_written_again(rmatk: CommandLine, bundle: Path, tmp_path: Path):
    def labels() -> list[str]:
        assert rmatk("export", bundle, "--triton", tmp_path / "r", "--name", "birds")[0] == 0
        return (tmp_path / "r" / "birds" / "labels.txt").read_text().splitlines()

    before = labels()
    assert rmatk("labels", bundle, "remove", before[0])[0] == 0
    assert labels() == before[1:]


@pytest.mark.tensorrt
class TestWithTensorRtForRtx:
    """Where no GPU is, engine and sidecar are left, and it is said that parity is still to be run."""

    RTX = ("--trt", "--flavour", "tensorrt_rtx", "--compute-capability", "89")

    @pytest.fixture(autouse=True)
    def no_gpu(self, monkeypatch: pytest.MonkeyPatch) -> None:
        pytest.importorskip("tensorrt_rtx")
        monkeypatch.setattr("rmatk_runtime.tensorrt.machine.first_gpu", lambda: None)

    def test_a_bundle_gets_an_engine(self, rmatk: CommandLine, bundle: Path):
        code, out, error = rmatk("export", bundle, *self.RTX)
        assert code == 0 and not error
        (plan,) = (bundle / "engines").glob("*.engine")
        sidecar = json.loads(plan.with_suffix(".json").read_bytes())
        assert sidecar["key"]["compute_capabilities"] == ["8.9"] and sidecar["parity"] is None
        words = " ".join(out.split())
        assert f"{plan} for TensorRT for RTX" in words and "compute capability 8.9" in words
        assert "parity is still to be run on the device: this machine has no GPU" in words
        assert f"next: rmatk parity {bundle}" in words
        assert f"{sidecar['layers']}" in words and f"{sidecar['size'] / 1e6:.2f}" in words

    def test_json(self, rmatk: CommandLine, bundle: Path):
        code, out, _ = rmatk("export", bundle, *self.RTX, "--batch", "1:2:4", "--json")
        record = json.loads(out)
        assert code == 0 and record["bundle"] == str(bundle) and "no GPU" in record["unchecked"]
        (engine,) = record["engines"]
        assert Path(engine["file"]).is_file() and engine["key"]["batch"] == {"min": 1, "opt": 2, "max": 4}

    def test_info_lists_engines_and_why_they_cannot_be_used(self, rmatk: CommandLine, bundle: Path):
        rmatk("export", bundle, *self.RTX)
        code, out, _ = rmatk("info", bundle)
        words = " ".join(out.split())
        assert code == 0 and "fp32 on images, batch 1:1:8" in words and "parity not checked" in words
        assert "not usable here: this machine has no GPU that NVIDIA's driver lists" in words
        (engine,) = json.loads(rmatk("info", bundle, "--json")[1])["engines"]
        assert not engine["usable"] and engine["sidecar"]["key"]["flavour"] == "tensorrt_rtx"

    def test_infer_refuses_it_with_the_reason(self, rmatk: CommandLine, bundle: Path, photos: Path):
        rmatk("export", bundle, *self.RTX)
        (plan,) = (bundle / "engines").glob("*.engine")
        for backend in ("auto", "tensorrt"):
            code, out, error = rmatk("infer", bundle, photos, "--backend", backend)
            words = " ".join(error.split())
            assert code == 1 and not out and "--backend cpu" in words
            assert f"{plan.name}: this machine has no GPU that NVIDIA's driver lists" in words
        code, out, _ = rmatk("infer", bundle, photos, "--backend", "cpu")
        assert code == 0 and "on onnxruntime cpu" in " ".join(out.split())

    def test_options_that_this_tensorrt_lacks_are_wrong_usage(self, rmatk: CommandLine, bundle: Path):
        code, _, error = rmatk("export", bundle, *self.RTX, "--version-compat")
        assert code == 2 and "--version-compat" in error and not (bundle / "engines").exists()

    def test_interrupted_from_the_terminal(self, bundle: Path):
        command = [sys.executable, "-c", _INTERRUPTING, "export", str(bundle), *self.RTX]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        _, error = process.communicate(timeout=120)
        assert process.returncode == 130, error
        assert not list((bundle / "engines").glob("*"))


_INTERRUPTING = f"""
import os
from rmatk.cli import main
from rmatk_runtime.tensorrt import progress
step = progress.Phases.step
def interrupting(self, name, number):
    step(self, name, number)
    if number == 5:
        os.kill(os.getpid(), {int(signal.SIGINT)})
progress.Phases.step = interrupting
main()
"""


@pytest.mark.tensorrt
def test_engines_are_built_without_torch_and_onnx(bundle: Path):
    pytest.importorskip("tensorrt_rtx")
    names = {"torch", "open_clip", "onnx", "onnxruntime", "safetensors"}
    report = f"print(sorted({names} & set(sys.modules)))"
    code = f"import sys\nfrom rmatk.cli import main\ntry: main()\nfinally: {report}"
    command = [sys.executable, "-c", code, "export", str(bundle), "--trt", "--flavour", "tensorrt_rtx"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stdout.endswith("[]\n"), done.stderr


def test_int8_says_what_it_does_while_people_wait(rmatk: CommandLine, tiny_run, tiny, monkeypatch, tmp_path):
    monkeypatch.setattr("rmatk.backbones.backbone.load_backbone", lambda *names: tiny)
    monkeypatch.setenv("FORCE_COLOR", "1")  # which Rich takes for a terminal
    code, _, error = rmatk("export", tiny_run.path, "-o", tmp_path / "int8", "--precision", "int8")
    assert code == 0 and "int8" in error and "judging all in int8" in error
    code, out, error = rmatk(
        "export", tiny_run.path, "-o", tmp_path / "json", "--precision", "int8", "--json"
    )
    assert code == 0 and not error and json.loads(out)["quantisation"]["images"] > 0
    _, _, error = rmatk("export", tiny_run.path, "-o", tmp_path / "fp32")
    assert "int8" not in error
