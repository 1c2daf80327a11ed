from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from rmatk_runtime.classifier import Classifier
from rmatk_runtime.errors import BundleError
from rmatk_runtime.frames import Prediction, Score
from rmatk_runtime.loop import Summary
from rmatk_runtime.preprocess import UInt8
from rmatk_runtime.sources import open_source


class FakeClassifier:
    """Says ``red`` or ``blue`` by the pixels; keeps what it was opened with."""

    opened: dict[str, Any]
    sizes: list[int]

    def __init__(self, bundle: Path, **options: Any) -> None:
        if not bundle.is_dir():
            raise BundleError(f"no such bundle: {bundle}", "rmatk export RUN -o BUNDLE")
        type(self).opened, type(self).sizes = options, []
        self.backend = SimpleNamespace(name="fake engine")

    def classify(self, images: Sequence[UInt8]) -> list[Prediction]:
        self.sizes.append(len(images))
        return [self._one(image) for image in images]

    def _one(self, image: UInt8) -> Prediction:
        red, _, blue = (float(value) for value in image.mean(axis=(0, 1)))
        names = ("red", "blue") if red >= blue else ("blue", "red")
        return Prediction((Score(names[0], 0.8), Score(names[1], 0.2)), rejected=red == blue)

    def __enter__(self) -> FakeClassifier:
        return self

    def __exit__(self, *_: object) -> None:
        pass


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(Classifier, "open", FakeClassifier)
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "bundle"
    folder.mkdir()
    return folder


@pytest.fixture
def rmatk(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    def call(*arguments: object) -> tuple[int, str, str]:
        from rmatk.cli import main

        monkeypatch.setattr(sys, "argv", ["rmatk", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            main()
        return int(left.value.code or 0), *capfd.readouterr()

    return call


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(11):
        Image.new("RGB", (48, 32), (200, 0, 0) if number < 8 else (0, 0, 200)).save(folder / f"{number}.png")
    return folder


Rmatk = Callable[..., tuple[int, str, str]]


def test_all_outputs_hold_every_frame(bundle: Path, photos: Path, tmp_path: Path, rmatk: Rmatk) -> None:
    out = tmp_path / "out"
    wanted = {
        "--jsonl": out / "p.jsonl",
        "--csv": out / "p.csv",
        "--video": out / "p.mp4",
        "--images": out / "im",
    }
    code, text, _ = rmatk("infer", bundle, photos, *(part for pair in wanted.items() for part in pair))
    assert code == 0
    records = [json.loads(line) for line in (out / "p.jsonl").read_text().splitlines()]
    assert [record["label"] for record in records] == ["red"] * 8 + ["blue"] * 3
    assert [Path(record["source"]).name for record in records] == [f"{n}.png" for n in range(11)]
    with (out / "p.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 11
    assert len(list((out / "im").iterdir())) == 11
    with open_source(str(out / "p.mp4")) as source:
        assert len(list(source)) == 11
    assert "11 frames" in text and "fake engine" in text
    assert ["red", "8", "72.7%"] in [line.split() for line in text.splitlines()]
    assert "next: rmatk parity" in text
    assert FakeClassifier.sizes == [8, 3]


def test_options_reach_the_classifier_and_the_loop(bundle: Path, photos: Path, rmatk: Rmatk) -> None:
    options = ["--top-k", 2, "--threshold", 0.5, "--backend", "cpu", "--allow-cpu", "--precision", "fp16"]
    limits = ["--every", 2, "--max-frames", 3, "--batch", 2]
    code, text, _ = rmatk("infer", bundle, photos, *options, *limits, "--json")
    assert code == 0
    engine = {"backend": "cpu", "precision": "fp16", "allow_cpu": True}
    assert FakeClassifier.opened == {**engine, "top_k": 2, "threshold": 0.5}
    assert FakeClassifier.sizes == [2, 1]
    assert json.loads(text)["frames"] == 3


def test_json_is_one_object_and_nothing_else(bundle: Path, photos: Path, rmatk: Rmatk) -> None:
    code, text, errors = rmatk("infer", bundle, photos, "--json", "--csv", "out.csv")
    summary = json.loads(text)
    assert code == 0 and text.count("\n") == 1 and not errors
    assert summary["frames"] == 11 and summary["labels"] == {"red": 8, "blue": 3}
    assert summary["backend"] == "fake engine" and summary["outputs"] == {"csv": "out.csv"}
    assert (summary["skipped"], summary["rejected"], summary["interrupted"]) == (0, 0, False)
    assert set(summary["stages"]) == {"read", "classify", "write"}


def test_jsonl_on_stdout_is_alone_there(bundle: Path, photos: Path, rmatk: Rmatk) -> None:
    code, text, errors = rmatk("infer", bundle, photos, "--jsonl", "-")
    assert code == 0 and len([json.loads(line) for line in text.splitlines()]) == 11
    assert "11 frames" in errors


def test_without_outputs_a_line_per_frame_and_the_next_command(
    bundle: Path, photos: Path, rmatk: Rmatk
) -> None:
    code, text, _ = rmatk("infer", bundle, photos / "9.png")
    assert code == 0 and "9.png" in text.splitlines()[0] and "blue 80.0%" in text.splitlines()[0]
    assert f"next: rmatk infer {bundle} {photos / '9.png'} --jsonl" in text


def test_camera_runs_one_frame_at_a_time(bundle: Path, rmatk: Rmatk) -> None:
    code, text, _ = rmatk("infer", bundle, "--camera", "test://64x48@50?frames=5", "--jsonl", "-")
    assert code == 0 and 1 <= len(text.splitlines()) <= 5  # what comes too fast is dropped
    assert FakeClassifier.sizes == [1] * len(text.splitlines())


def test_several_inputs_follow_each_other(bundle: Path, photos: Path, rmatk: Rmatk) -> None:
    inputs = (photos / "10.png", "test://64x48?frames=2&live=0", photos / "0.png")
    code, text, _ = rmatk("infer", bundle, *inputs, "--jsonl", "-")
    labels = [json.loads(line)["label"] for line in text.splitlines()]
    assert code == 0 and len(labels) == 4 and (labels[0], labels[-1]) == ("blue", "red")


def test_unreadable_images_are_told(
    bundle: Path, photos: Path, rmatk: Rmatk, caplog: pytest.LogCaptureFixture
) -> None:
    (photos / "3.png").write_bytes(b"nothing")
    code, text, _ = rmatk("infer", bundle, photos, "--json")
    assert code == 0 and json.loads(text)["skipped"] == 1 and "3.png" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["bundle"], "--camera"),
        (["bundle", "photos", "--json", "--jsonl", "-"], "choose one"),
        (["bundle", "photos", "--top-k", "0"], "--top-k"),
        (["bundle", "photos", "--threshold", "2"], "--threshold"),
        (["bundle", "photos", "--every", "0"], "--every"),
    ],
)
def test_usage_errors_leave_with_2(
    arguments: list[str], message: str, bundle: Path, photos: Path, rmatk: Rmatk
) -> None:
    code, _, errors = rmatk("infer", *arguments)
    assert code == 2 and message in errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere", "photos"], "no such bundle"),
        (["bundle", "nowhere.jpg"], "no such file"),
        (["bundle", "photos", "--video", "out.txt"], "must end in"),
        (["bundle", "rtsp://me:hunter2@127.0.0.1:9/x"], "cannot open rtsp://127.0.0.1:9/x"),
    ],
)
def test_errors_are_named_and_leave_old_results_alone(
    arguments: list[str], message: str, bundle: Path, photos: Path, rmatk: Rmatk
) -> None:
    Path("old.jsonl").write_text("yesterday's\n")
    jsonl = [] if "--video" in arguments else ["--jsonl", "old.jsonl"]
    code, text, errors = rmatk("infer", *arguments, *jsonl)
    assert code == 1 and message in errors and "hint:" in errors and "Traceback" not in errors
    assert "hunter2" not in text + errors
    assert Path("old.jsonl").read_text() == "yesterday's\n"


def test_next_command_repeats_no_credentials(capsys: pytest.CaptureFixture[str]) -> None:
    from rmatk.cli.infer.summary import print_summary

    summary = Summary(3, 0, 1.0, {}, {"red": 2}, rejected=1, interrupted=False)
    print_summary(summary, Path("bundle"), "fake", ["rtsp://me:hunter2@cam/live"], {})
    text = capsys.readouterr().out
    assert "next: rmatk infer bundle rtsp://cam/live" in text and "hunter2" not in text
    assert ["(unsure)", "1", "33.3%"] in [line.split() for line in text.splitlines()]


def test_real_video_gives_132_lines(bundle: Path, shared_data: Path, rmatk: Rmatk) -> None:
    video = shared_data / "video" / "waste_pan_composed.mp4"
    code, _, _ = rmatk("infer", bundle, video, "--jsonl", "out.jsonl")
    records = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
    assert code == 0 and [record["frame"] for record in records] == list(range(132))


def test_second_ctrl_c_does_not_strike_while_files_are_closed() -> None:
    from rmatk.cli.infer.signals import one_interrupt

    with one_interrupt():
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_leaves_whole_files(bundle: Path, tmp_path: Path) -> None:
    """A real process and a real signal, in the middle of an endless run with every output."""
    code = (
        "import sys; from rmatk_runtime.classifier import Classifier; "
        "from test_cli_infer import FakeClassifier; Classifier.open = FakeClassifier; "
        "from rmatk.cli import main; main()"
    )
    out = tmp_path / "out"
    outputs = ["--jsonl", out / "p.jsonl", "--csv", out / "p.csv", "--video", out / "p.mp4"]
    command = [sys.executable, "-c", code, "infer", bundle, "--camera", "test://64x48@100", *outputs]
    with subprocess.Popen(
        list(map(str, command)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": ":".join([str(Path(__file__).parent), *sys.path])},
    ) as process:
        jsonl = out / "p.jsonl"
        deadline = time.monotonic() + 60
        while not (jsonl.exists() and jsonl.read_bytes().count(b"\n") >= 5):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        for _ in range(20):  # an impatient person, or a wrapper that signals process and group
            process.send_signal(signal.SIGINT)
        text, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "interrupted" in text and "Traceback" not in errors
    assert sorted(path.name for path in out.iterdir()) == ["p.csv", "p.jsonl", "p.mp4"]
    lines = jsonl.read_text().splitlines()
    frames = [json.loads(line)["frame"] for line in lines]
    assert frames == sorted(set(frames))  # a camera's may have gaps
    with open_source(str(out / "p.mp4")) as source:
        assert abs(len(list(source)) - len(lines)) <= 1
