"""The command line's manners: named errors without a traceback, exit codes, JSON, nothing half-written."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rmatk.cli import main
from rmatk.cli.console import print_table
from rmatk_runtime.parity.table import SHORT


@pytest.fixture(scope="module")
def micro_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """rmatk-micro trained for a moment on drawn photos."""
    import numpy as np
    from PIL import Image

    from rmatk.backbones.backbone import load_backbone
    from rmatk.config import TrainConfig
    from rmatk.training.train import train

    root = tmp_path_factory.mktemp("micro")
    for number, name in enumerate(("red_thing", "green_thing")):
        (root / "photos" / name).mkdir(parents=True)
        for index in range(4):
            pixels = np.random.default_rng([number, index]).integers(0, 80, (60, 80, 3))
            pixels[..., number] += 150
            Image.fromarray(pixels.astype(np.uint8)).save(root / "photos" / name / f"{index}.png")
    config = TrainConfig(shots=4, epochs=2, rank=4)
    train(config, load_backbone("rmatk-micro"), root / "photos", root / "run")
    return root


@pytest.mark.parametrize("where", ["rmatk.cli.commands", "rmatk.training.distributed", "numpy"])
def test_ctrl_c_while_modules_are_imported_is_one_line(tmp_path: Path, where: str):
    """``numpy``: compiled code swallows the interrupt, and what follows is an ImportError."""
    script = f"""
import importlib.abc, signal, sys
from rmatk.cli import main
class Interrupt(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == {where!r}:
            try:
                signal.raise_signal(signal.SIGINT)
            except KeyboardInterrupt:
                if name == "numpy":
                    raise ImportError("cannot load module more than once per process") from None
                raise
sys.modules.pop({where!r}, None)
sys.meta_path.insert(0, Interrupt())
sys.argv = ["rmatk", "train", "photos", "-o", "run", "--model", "rmatk-micro"]
main()
"""
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stdout, result.stderr) == (130, "", "interrupted\n")


@pytest.mark.parametrize(
    ("encoding", "printed"), [("ascii", "\\u0394"), ("latin-1", "\\u0394"), ("utf-8", "Δ")]
)
def test_what_an_encoding_lacks_is_escaped(encoding: str, printed: str):
    """Table headings on a Latin-1 terminal; names of files that are no UTF-8, as old archives leave them."""
    script = "from rmatk.cli import _print_anything; _print_anything(); print('Δ', '\\udcfc')"
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    told = subprocess.check_output([sys.executable, "-X", "utf8", "-c", script], env=environment)
    assert told.decode(encoding) == f"{printed} \\udcfc\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is Linux's")
@pytest.mark.parametrize("option", [[], ["--json"]])
def test_a_full_disk_behind_standard_output_is_a_named_error(micro_run: Path, option: list[str]):
    script = "from rmatk.cli import main; main()"
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(
            [sys.executable, "-c", script, "info", micro_run / "run", *option],
            stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert result.returncode == 1
    assert result.stderr.startswith("error: disk full while writing standard output\n hint: free some space")
    assert len(result.stderr.splitlines()) == 2


@pytest.mark.parametrize("width", [20, 40, 60, 80])
def test_a_narrow_terminal_keeps_what_a_row_is_about(monkeypatch, capsys, width: int):
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("FORCE_COLOR", "1")  # Rich then takes any stream for a terminal
    monkeypatch.setenv("TERM", "xterm")
    row = ["onnxruntime cpu fp32", *(f"{number}.000000" for number in range(len(SHORT) - 2)), "FAILS"]
    print_table("parity", SHORT, [row], wrap=True)
    printed = capsys.readouterr().out
    assert all(word in printed for word in ("onnxruntime", "fp32", *row[1:]))


def test_half_a_manifest_is_copied_again(rmatk, tmp_path: Path):
    (tmp_path / "manifest.json").write_text('{"format": "rmatk-bun')
    code, _, error = rmatk("info", tmp_path)
    assert code == 1 and " hint: copy the bundle again, or " in error


def test_the_whole_way(rmatk, micro_run: Path, tmp_path: Path):
    run, photos, bundle = micro_run / "run", micro_run / "photos", tmp_path / "bundle"
    code, out, _ = rmatk("eval", run, photos, "--json")
    assert code == 0 and {"accuracy", "zero_shot_accuracy", "per_class", "images"} <= set(json.loads(out))
    code, out, _ = rmatk("export", run, "-o", bundle, "--golden", 4, "--json")
    assert code == 0 and all(stage["passed"] for stage in json.loads(out)["stages"])
    code, out, _ = rmatk("parity", bundle, photos, "--against", run, "--json")
    result = json.loads(out)
    assert code == 0 and result["passed"]
    kinds = [stage["kind"] for stage in result["stages"]]
    assert kinds == ["preprocessing", "class matrix", "fold", "graph", "fast resize"]
    code, out, _ = rmatk("parity", bundle)
    assert code == 0 and "onnxruntime cpu fp32" in out and "next: " in out
    code, out, _ = rmatk("info", bundle, "--json")
    assert code == 0 and json.loads(out)["classes"] == ["green thing", "red thing"]
    assert rmatk("info", run)[0] == rmatk("info", bundle)[0] == 0
    lines = tmp_path / "out.jsonl"
    assert rmatk("infer", bundle, photos, "--jsonl", lines)[0] == 0
    assert len(lines.read_text().splitlines()) == 8


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda root: root / "absent", "found nothing at"),
        (lambda root: folder(root, {}), "found none"),
        (lambda root: folder(root, {"a": 2, "b": 0}), "for: b"),
        (lambda root: folder(root, {"a": 2}), "at least two classes"),
    ],
)
def test_training_folders_that_cannot_be_used(rmatk, tmp_path: Path, make, said: str):
    code, _, err = rmatk("train", make(tmp_path / "photos"), "-o", tmp_path / "run", "--model", "rmatk-micro")
    assert code == 1 and said in err and " hint: " in err and "Traceback" not in err
    assert not (tmp_path / "run").exists()


def folder(root: Path, counts: dict[str, int]) -> Path:
    from PIL import Image

    root.mkdir()
    for name, count in counts.items():
        (root / name).mkdir()
        for index in range(count):
            Image.new("RGB", (20, 20), (index, 0, 0)).save(root / name / f"{index}.png")
    return root


def test_photos_that_cannot_be_read_are_all_listed(rmatk, tmp_path: Path):
    photos = folder(tmp_path / "photos", {"a": 3, "b": 3})
    (photos / "a" / "0.png").write_text("not an image")
    (photos / "b" / "1.png").write_bytes((photos / "b" / "2.png").read_bytes()[:40])
    code, _, err = rmatk("train", photos, "-o", tmp_path / "run", "--model", "rmatk-micro")
    assert code == 1 and "a/0.png" in err and "b/1.png" in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photos"]


def test_photos_of_a_list_that_are_not_there_are_all_listed(rmatk, tmp_path: Path):
    folder(tmp_path / "photos", {"a": 2, "b": 2})
    rows = ["photos/a/0.png,a", "photos/a/9.png,a", "photos/b/0.png,b", "photos/b/8.png,b"]
    (tmp_path / "list.csv").write_text("\n".join(["path,label", *rows]))
    for options in ((), ("--cache", "off")):
        code, _, err = rmatk(
            "train",
            tmp_path / "list.csv",
            "-o",
            tmp_path / "run",
            "--model",
            "rmatk-micro",
            "--epochs",
            1,
            *options,
        )
        assert code == 1 and "Traceback" not in err and "2 of 4 images" in err
        assert "photos/a/9.png" in err and "photos/b/8.png" in err and not (tmp_path / "run").exists()


def test_unknown_model_and_missing_weights(rmatk, tmp_path: Path):
    photos = folder(tmp_path / "photos", {"a": 2, "b": 2})
    code, _, err = rmatk("train", photos, "-o", tmp_path / "run", "--model", "ViT-B-61")
    assert code == 1 and "unknown model 'ViT-B-61'" in err and "ViT-B-16" in err
    code, _, err = rmatk("train", photos, "-o", tmp_path / "run", "--model", "RN50", "--pretrained", "openai")
    assert code == 1 and "ResNet" in err


def test_a_word_that_an_option_does_not_know_is_told_the_others(rmatk, tmp_path: Path):
    for flag, known in (("--optimizer", "sgd"), ("--precision", "bf16"), ("--cache", "disk")):
        code, _, err = rmatk(
            "train", tmp_path, "-o", tmp_path / "run", "--model", "rmatk-micro", flag, "other"
        )
        assert code == 2 and f"'{flag}'" in err and f"'{known}'" in err
    code, _, err = rmatk("eval", "--protocol", "few-shot", "--data", tmp_path, "--optimizer", "other")
    assert code == 2 and "'--optimizer'" in err and "'sgd'" in err


def test_a_bundle_or_nothing_in_place_of_a_run(rmatk, tmp_path: Path, tiny_bundle: Path):
    code, _, err = rmatk("eval", tiny_bundle, tmp_path)
    assert code == 1 and "is a bundle, not a run" in err and " hint: give the run" in err
    code, _, err = rmatk("eval", tmp_path / "absent", tmp_path)
    assert code == 1 and "no such run" in err and " hint: make one: rmatk train" in err


def test_usage_errors_are_2(rmatk, tmp_path: Path, tiny_bundle: Path):
    photos = folder(tmp_path / "photos", {"a": 2, "b": 2})
    for args in (
        ("train", photos, "-o", tmp_path / "run", "--model", "rmatk-micro", "--epochs", 0),
        ("train", photos),
        (
            "train",
            photos,
            "-o",
            tmp_path / "run",
            "--model",
            "rmatk-micro",
            "--shots",
            1,
            "--epochs",
            1,
            "--momentum",
            0.5,
        ),
        ("export", tmp_path, "-o", tmp_path / "b", "--golden", "many"),
        ("parity", tiny_bundle, photos),
        ("infer", tiny_bundle),
        ("nonsense",),
    ):
        code, _, err = rmatk(*args)
        assert code == 2 and "Traceback" not in err, args


def test_a_changed_byte_stops_every_command(rmatk, tiny_bundle: Path, tmp_path: Path):
    copy = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    graph = bytearray((copy / "image_encoder.onnx").read_bytes())
    graph[len(graph) // 2] ^= 1
    (copy / "image_encoder.onnx").write_bytes(graph)
    for command in ("parity", "info", "infer"):
        arguments = (command, copy, "test://") if command == "infer" else (command, copy)
        code, _, err = rmatk(*arguments)
        assert code == 1 and "image_encoder.onnx was altered" in err, command


def test_failed_parity_is_3(rmatk, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch):
    from rmatk_runtime.onnx_runtime.backend import OnnxRuntimeBackend

    sound = OnnxRuntimeBackend.embed
    monkeypatch.setattr(OnnxRuntimeBackend, "embed", lambda self, images: sound(self, images) * 0.9)
    code, out, err = rmatk("parity", tiny_bundle, "--json")
    assert code == 3 and not json.loads(out)["passed"]
    assert "parity fails at the stage 'onnxruntime cpu fp32'" in err


def unload(monkeypatch: pytest.MonkeyPatch, *packages: str) -> None:
    """Import these packages afresh in this test, but for the command line; put them back after it."""
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] not in packages or name == "rmatk" or name.startswith("rmatk.cli"):
            continue
        parent, _, child = name.rpartition(".")
        if name.startswith("rmatk.") and getattr(sys.modules.get(parent), child, None) is module:
            monkeypatch.delattr(sys.modules[parent], child)
        monkeypatch.delitem(sys.modules, name)


@pytest.mark.parametrize(("module", "extra"), [("torch", "train"), ("open_clip", "train")])
def test_a_missing_extra_is_named(rmatk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module, extra):
    unload(monkeypatch, module, "rmatk")
    monkeypatch.setitem(sys.modules, module, None)
    photos = folder(tmp_path / "photos", {"a": 2, "b": 2})
    code, _, err = rmatk("train", photos, "-o", tmp_path / "run", "--model", "rmatk-micro", "--shots", 2)
    assert code == 1 and f"{module} is not installed" in err and f"'rmatk[{extra}]'" in err


def test_on_a_jetson_a_missing_torch_says_where_to_train(rmatk, tmp_path: Path, monkeypatch):
    from rmatk_runtime import platform

    monkeypatch.setattr(platform, "jetson_model", lambda: "NVIDIA Jetson Orin Nano")
    unload(monkeypatch, "rmatk")
    monkeypatch.setitem(sys.modules, "torch", None)
    code, _, err = rmatk("train", tmp_path, "-o", tmp_path / "run", "--model", "rmatk-micro")
    assert code == 1 and "torch is not installed" in err
    assert "hint: train on another machine and copy the bundle here" in err


def test_debug_shows_the_traceback(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    from rmatk_runtime.errors import BundleError

    monkeypatch.setattr(sys, "argv", ["rmatk", "info", str(tmp_path / "absent"), "--debug"])
    with pytest.raises(BundleError):
        main()


def test_the_next_command_can_be_typed_as_it_stands(rmatk, micro_run: Path, tmp_path: Path):
    run, bundle = shutil.copytree(micro_run / "run", tmp_path / "my run"), tmp_path / "my bundle"
    shown = [rmatk("eval", run, micro_run / "photos"), rmatk("info", run)]
    shown += [
        rmatk("export", run, "-o", bundle, "--golden", 2),
        rmatk("parity", bundle),
        rmatk("info", bundle),
    ]
    shown += [rmatk("labels", bundle), rmatk("labels", bundle, "add", "mug")]
    for code, out, _ in shown:
        line = next(line for line in out.splitlines() if line.startswith("next: "))
        assert code == 0 and {str(run), str(bundle)} & set(shlex.split(line)), line


def test_what_is_neither_bundle_nor_run(rmatk, tmp_path: Path):
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file", tmp_path / "absent"):
        code, _, err = rmatk("info", path)
        assert (
            code == 1 and "found no manifest.json and no run.json in" in err and " hint: rmatk train" in err
        )
    code, _, err = rmatk("export", tmp_path / "absent", "-o", tmp_path / "bundle")
    assert code == 1 and "no such run or bundle" in err and " hint: make a run: rmatk train" in err


def test_info_of_a_run_tells_accuracy_on_photos_not_trained_on(rmatk, micro_run: Path, tiny_run):
    code, out, _ = rmatk("info", tiny_run.path)
    record = tiny_run.record.metrics
    assert code == 0 and f"{record.train_accuracy:.1%} (" in out and "of 18" in out
    code, out, _ = rmatk("info", micro_run / "run")
    assert code == 0 and "validation" in out and "no photos were left for it" in out


def test_parity_on_a_data_set_in_parts_and_on_strange_classes(rmatk, micro_run: Path, tmp_path: Path):
    bundle, parts, strange = tmp_path / "bundle", tmp_path / "parts", tmp_path / "strange"
    assert rmatk("export", micro_run / "run", "-o", bundle, "--golden", "none")[0] == 0
    for part in ("train", "test"):
        shutil.copytree(micro_run / "photos", parts / part)
    code, out, _ = rmatk("parity", bundle, parts, "--against", micro_run / "run", "--json")
    stages = json.loads(out)["stages"]
    assert code == 0 and stages[0]["images"] == 8 and "nothing is said of accuracy" not in out
    shutil.copytree(micro_run / "photos" / "red_thing", strange / "ruby")
    code, out, _ = rmatk("parity", bundle, strange, "--against", micro_run / "run")
    assert code == 0 and "not labels of the bundle, so nothing is said of accuracy: ruby" in out


def test_every_command_that_reads_photos_tells_of_those_it_does_not(rmatk, micro_run: Path, tmp_path: Path):
    run, bundle, photos = micro_run / "run", tmp_path / "bundle", tmp_path / "photos"
    assert rmatk("export", run, "-o", bundle, "--golden", "none")[0] == 0
    for part in ("train", "test"):
        shutil.copytree(micro_run / "photos", photos / part)
        (photos / part / "red_thing" / "IMG_1.NEF").write_bytes(b"")
    note = "note: not read, since they are no images by their names: 1 .nef\n"
    quick = ("--model", "rmatk-micro", "--shots", 1, "--epochs", 1, "--seeds", 1, "--methods", "zero-shot")
    for arguments in (
        ("eval", run, photos),
        ("parity", bundle, photos, "--against", run),
        ("bench", bundle, "--data", photos, "--repeats", 1, "--warmup", 0),
        ("eval", "--protocol", "few-shot", "--data", photos, *quick),
    ):
        code, out, errors = rmatk(*arguments, "--json")
        assert code == 0 and errors.count(note) == 1 and json.loads(out), arguments
    code, _, errors = rmatk(
        "train", photos, "-o", tmp_path / "run", "--model", "rmatk-micro", "--shots", 1, "--epochs", 1
    )
    assert code == 0 and errors.count(note) == 1


def test_an_export_over_a_bundle_says_what_was_made_in_it_and_is_gone(rmatk, micro_run: Path, tmp_path: Path):
    bundle, again = (
        tmp_path / "bundle",
        ("export", micro_run / "run", "-o", tmp_path / "bundle", "--golden", "none"),
    )
    code, out, _ = rmatk(*again)
    assert code == 0 and "gone" not in out
    assert rmatk("labels", bundle, "add", "oil can")[0] == 0
    (bundle / "engines").mkdir()
    (bundle / "engines" / "images-fp32.engine").write_bytes(b"plan")
    code, out, _ = rmatk(*again)
    assert code == 0 and not (bundle / "engines").exists()
    assert f"labels of the former bundle are gone: oil can; rmatk labels {bundle} add 'oil can'" in out
    assert f"engines of the former bundle are gone: 1; rmatk export {bundle} --trt builds one" in out
    code, out, _ = rmatk(*again, "--json")
    assert code == 0 and json.loads(out)["lost"] == []


def test_version(rmatk):
    from rmatk import __version__

    assert rmatk("--version")[:2] == (0, f"rmatk {__version__}\n")
