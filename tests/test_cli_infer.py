from __future__ import annotations

import csv
import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rmatk_runtime.arrays import Float32
from rmatk_runtime.backend import Backend
from rmatk_runtime.bundle.label_head import LabelHead
from rmatk_runtime.bundle.labels import ClassMatrix
from rmatk_runtime.bundle.manifest import Decision
from rmatk_runtime.errors import BundleError
from rmatk_runtime.inference.classifier import Classifier
from rmatk_runtime.inference.loop import Stop
from rmatk_runtime.inference.summary import Summary
from rmatk_runtime.pictures.preprocess import PreprocessSpec
from rmatk_runtime.sources import open_source


class RedOrBlue(Backend):
    """Embeds a picture as the one of the two colours it has more of; keeps the sizes of batches."""

    name = "fake engine"

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def embed(self, images: Float32) -> Float32:
        self.sizes.append(len(images))
        red, _, blue = np.moveaxis(images.mean(axis=(2, 3)), 1, 0)
        return np.eye(2, dtype=np.float32)[(blue > red).astype(int)]


class FakeClassifier(Classifier):
    """A classifier of red and blue; keeps what it was opened with."""

    opened: dict[str, Any]
    backend: RedOrBlue

    @classmethod
    def open(cls, bundle: Path, *, top_k: int = 5, threshold: float | None = None, **options: Any) -> Any:
        if not bundle.is_dir():
            raise BundleError(f"no such bundle: {bundle}", "rmatk export RUN -o BUNDLE")
        classes = ClassMatrix(("red", "blue"), np.eye(2, dtype=np.float32))
        answers = LabelHead(classes, Decision(logit_scale=math.log(4)), top_k, threshold)
        cls.opened, cls.backend = options, RedOrBlue()
        return cls(cls.backend, PreprocessSpec(8, 8, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)), answers)


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("rmatk_runtime.inference.classifier.Classifier", FakeClassifier)
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
    assert FakeClassifier.backend.sizes == [8, 3]


def test_options_reach_the_classifier_and_the_loop(bundle: Path, photos: Path, rmatk: Rmatk) -> None:
    options = ["--top-k", 2, "--threshold", 0.5, "--backend", "cpu", "--allow-cpu", "--precision", "fp16"]
    limits = ["--every", 2, "--max-frames", 3, "--batch", 2]
    code, text, _ = rmatk("infer", bundle, photos, *options, *limits, "--json")
    assert code == 0
    engine = {"backend": "cpu", "precision": "fp16", "batch": 2, "allow_cpu": True}
    assert engine.items() <= FakeClassifier.opened.items()
    assert FakeClassifier.backend.sizes == [2, 1]
    assert json.loads(text)["frames"] == 3
    assert json.loads(text)["rejected"] == 0
    code, text, _ = rmatk("infer", bundle, photos, "--top-k", 1, "--threshold", 0.9, "--jsonl", "-")
    records = [json.loads(line) for line in text.splitlines()]
    assert all(record["rejected"] and len(record["top"]) == 1 for record in records)


@pytest.mark.parametrize(
    ("told", "size"),
    [(["PHOTOS"], 8), (["test://?frames=1"], 1), (["PHOTOS", "--batch", 3], 3), (["PHOTOS", "test://"], 2)],
)
def test_the_engine_is_chosen_for_the_batches_that_will_come(
    bundle: Path, photos: Path, rmatk: Rmatk, told: list, size: int
) -> None:
    rmatk("infer", bundle, *(photos if word == "PHOTOS" else word for word in told), "--max-frames", 1)
    assert FakeClassifier.opened["batch"] == size


def test_json_is_one_object_and_nothing_else(bundle: Path, photos: Path, rmatk: Rmatk) -> None:
    code, text, errors = rmatk("infer", bundle, photos, "--json", "--csv", "out.csv")
    summary = json.loads(text)
    assert code == 0 and text.count("\n") == 1 and not errors
    assert summary["frames"] == 11 and summary["labels"] == {"red": 8, "blue": 3}
    assert summary["backend"] == "fake engine" and summary["outputs"] == {"csv": "out.csv"}
    assert (summary["skipped"], summary["rejected"], summary["dropped"], summary["ended"]) == (0, 0, 0, None)
    assert set(summary["stages"]) == {"read", "prepare", "infer", "write"}


def test_csv_on_stdout_is_alone_there(bundle: Path, photos: Path, rmatk: Rmatk) -> None:
    code, text, errors = rmatk("infer", bundle, photos, "--csv", "-")
    rows = list(csv.reader(text.splitlines()))
    assert code == 0 and len(rows) == 12 and rows[0][0] == "frame" and {len(row) for row in rows} == {13}
    assert "11 frames" in errors


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
    assert FakeClassifier.backend.sizes == [1] * len(text.splitlines())


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


@pytest.mark.parametrize("option", ["--video", "--jsonl", "--csv", "--images"])
def test_no_output_is_written_over_an_input(rmatk, tmp_path, monkeypatch, option):
    monkeypatch.chdir(tmp_path)
    kept = Path("mine.mp4")
    kept.mkdir() if option == "--images" else kept.write_bytes(b"the only copy")
    Path("link.mp4").symlink_to(kept)
    for name in ("mine.mp4", tmp_path / "link.mp4"):
        code, _, error = rmatk("infer", "bundle", "mine.mp4", option, name)
        assert code == 2 and "would be written over the input mine.mp4" in error
    assert kept.is_dir() or kept.read_bytes() == b"the only copy"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["bundle"], "--camera"),
        (["bundle", "photos", "--json", "--jsonl", "-"], "choose one"),
        (["bundle", "photos", "--json", "--csv", "-"], "choose one"),
        (["bundle", "photos", "--jsonl", "-", "--csv", "-"], "choose one"),
        (["bundle", "photos", "--jsonl", "out", "--csv", "./out"], "the same name"),
        (["bundle", "photos", "--publish", "all"], "--webhook and --mqtt"),
        (["bundle", "photos", "--top-k", "0"], "--top-k"),
        (["bundle", "photos", "--threshold", "2"], "--threshold"),
        (["bundle", "photos", "--every", "0"], "--every"),
        (["bundle", "photos", "--duration", "0"], "--duration"),
        (["bundle", "photos", "--smooth", "-1"], "--smooth"),
    ],
)
def test_usage_errors_leave_with_2(
    arguments: list[str], message: str, bundle: Path, photos: Path, rmatk: Rmatk
) -> None:
    code, _, errors = rmatk("infer", *arguments)
    assert code == 2 and message in errors


def test_engines_of_the_command_line_are_the_runtimes(bundle: Path, photos: Path, rmatk: Rmatk) -> None:
    from typing import get_args

    from rmatk.cli.infer.options import BackendName
    from rmatk_runtime.selection import BACKENDS

    assert get_args(BackendName) == BACKENDS
    for command in (("infer", bundle, photos), ("parity", bundle), ("bench", bundle)):
        code, _, errors = rmatk(*command, "--backend", "quantum")
        assert code == 2 and "'ort-tensorrt'" in errors


def test_a_place_that_takes_no_file_is_named(bundle: Path, photos: Path, rmatk: Rmatk) -> None:
    """The hint fits every option that writes, not only ``-o``, which infer does not have."""
    code, _, errors = rmatk("infer", bundle, photos, "--jsonl", "/proc/results.jsonl")
    assert code == 1 and "cannot write /proc/results.jsonl" in errors and errors.endswith("another place\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere", "photos"], "no such bundle"),
        (["bundle", "nowhere.jpg"], "no such file"),
        (["bundle", "photos", "--video", "out.txt"], "must end in"),
        (["bundle", "photos", "--webhook", "ftp://me:hunter2@host"], "not a web address"),
        (["bundle", "photos", "--mqtt", "mqtt://me:hunter2@host"], "with a topic"),
        (["bundle", "photos", "--window"], "no screen"),
        (["bundle", "rtsp://me:hunter2@127.0.0.1:9/x"], "cannot open rtsp://127.0.0.1:9/x"),
    ],
)
def test_errors_are_named_and_leave_old_results_alone(
    arguments: list[str],
    message: str,
    bundle: Path,
    photos: Path,
    rmatk: Rmatk,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Path("old.jsonl").write_text("yesterday's\n")
    monkeypatch.delenv("DISPLAY", raising=False)
    code, text, errors = rmatk("infer", *arguments, "--jsonl", "old.jsonl")
    assert code == 1 and message in errors and "hint:" in errors and "Traceback" not in errors
    assert "hunter2" not in text + errors
    assert Path("old.jsonl").read_text() == "yesterday's\n"


def test_results_go_to_a_webhook_and_its_absence_ends_nothing(
    bundle: Path, photos: Path, rmatk: Rmatk
) -> None:
    heard: list[dict[str, Any]] = []

    class Answering(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Answering) as server:
        url = f"http://me:hunter2@127.0.0.1:{server.server_port}/hook"
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        code, text, errors = rmatk("infer", bundle, photos, "--webhook", url)
        server.shutdown()
    assert code == 0 and "11 frames" in text and not errors
    assert [record["label"] for record in heard] == ["red", "blue"]
    code, text, errors = rmatk("infer", bundle, photos, "--webhook", url, "--publish", "all")
    assert code == 0 and "11 frames" in text
    assert "11 results were not delivered: [Errno 111] Connection refused" in errors
    assert "hunter2" not in text + errors


def test_next_command_repeats_no_credentials(capsys: pytest.CaptureFixture[str]) -> None:
    from rmatk.cli.infer.summary import print_summary

    summary = Summary(3, 0, 0, 1.0, {}, None, {"red": 2}, rejected=1, ended=None)
    print_summary(summary, Path("bundle"), "fake", ["rtsp://me:hunter2@cam/live"], {})
    text = capsys.readouterr().out
    assert "next: rmatk infer bundle rtsp://cam/live" in text and "hunter2" not in text
    assert ["(unsure)", "1", "33.3%"] in [line.split() for line in text.splitlines()]


def test_real_video_gives_132_lines(bundle: Path, shared_data: Path, rmatk: Rmatk) -> None:
    video = shared_data / "video" / "waste_pan_composed.mp4"
    code, _, _ = rmatk("infer", bundle, video, "--jsonl", "out.jsonl")
    records = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
    assert code == 0 and [record["frame"] for record in records] == list(range(132))


def test_signals_ask_and_strike_nowhere() -> None:
    from rmatk.cli.infer.signals import EXIT_CODES, signals_ask

    for number, reason in ((signal.SIGINT, "interrupted"), (signal.SIGTERM, "terminated")):
        stop = Stop()
        before = signal.getsignal(number)
        with signals_ask(stop):
            signal.raise_signal(number)
            signal.raise_signal(number)
        assert stop.reason == reason and EXIT_CODES[reason] == 128 + number
        assert signal.getsignal(number) is before


def test_an_ignored_signal_stays_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    from rmatk.cli.infer.signals import signals_ask

    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        stop = Stop()
        with signals_ask(stop):
            signal.raise_signal(signal.SIGINT)
        assert stop.reason is None
    finally:
        signal.signal(signal.SIGINT, before)


CODE = (
    "import rmatk_runtime.inference.classifier as c; from test_cli_infer import FakeClassifier; "
    "c.Classifier = FakeClassifier; from rmatk.cli import main; main()"
)


@contextmanager
def process(*arguments: object, code: str = CODE) -> Iterator[subprocess.Popen[str]]:
    """``rmatk infer`` with the fake classifier, as a process of its own."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    with subprocess.Popen(
        [sys.executable, "-c", code, "infer", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as running:
        try:
            yield running
        finally:
            running.kill()


def wait_for_lines(jsonl: Path, count: int, running: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while not (jsonl.exists() and jsonl.read_bytes().count(b"\n") >= count):
        assert running.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("number", "code", "told"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_signals_leave_whole_files(
    bundle: Path, tmp_path: Path, number: signal.Signals, code: int, told: str
) -> None:
    """A real process and a real signal, in the middle of an endless run with every output."""
    out = tmp_path / "out"
    outputs = ["--jsonl", out / "p.jsonl", "--csv", out / "p.csv", "--video", out / "p.mp4"]
    with process(bundle, "--camera", "test://64x48@100", *outputs) as running:
        wait_for_lines(out / "p.jsonl", 5, running)
        for _ in range(20):  # an impatient person, or a wrapper that signals process and group
            running.send_signal(number)
        text, errors = running.communicate(timeout=60)
    assert running.returncode == code, errors
    assert told in text and "Traceback" not in errors
    assert sorted(path.name for path in out.iterdir()) == ["p.csv", "p.jsonl", "p.mp4"]
    lines = (out / "p.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    assert [record["frame"] for record in records] == sorted({record["frame"] for record in records})
    assert all(record["latency_ms"] > 0 for record in records)
    with open_source(str(out / "p.mp4")) as source:
        assert abs(len(list(source)) - len(lines)) <= 1


def test_a_signal_ends_a_run_whose_camera_gives_nothing(bundle: Path, tmp_path: Path) -> None:
    """The read blocks for ever in a thread that nothing can wake."""
    code = (
        "import threading, rmatk_runtime.sources as s\n"
        "from rmatk_runtime.sources.live import LiveSource\n"
        "from rmatk_runtime.sources.options import SourceOptions\n"
        "from rmatk_runtime.sources.pattern import Pattern, PatternConnection\n"
        "class Stuck(PatternConnection):\n"
        "    def __iter__(self):\n"
        "        yield next(super().__iter__())\n"
        "        threading.Event().wait()\n"
        "connect = lambda: Stuck(Pattern((64, 48), 30, None, 0))\n"
        "s.open_source = lambda *uris, **options: LiveSource('camera', connect, SourceOptions())\n"
    )
    jsonl = tmp_path / "p.jsonl"
    with process(bundle, "--camera", "0", "--jsonl", jsonl, code=code + CODE) as running:
        wait_for_lines(jsonl, 1, running)
        running.send_signal(signal.SIGTERM)
        _, errors = running.communicate(timeout=60)
    assert running.returncode == 143, errors
    assert jsonl.read_bytes().count(b"\n") == 1


def test_what_a_source_can_be_told_reaches_it(bundle: Path, photos: Path, rmatk: Rmatk) -> None:
    code, text, _ = rmatk("infer", bundle, photos, "--stride", 2, "--jsonl", "-", "--max-frames", 2)
    assert code == 0 and [json.loads(line)["frame"] for line in text.splitlines()] == [0, 2]
    arguments = ("--camera", "test://?frames=9", "--size", "96x64", "--rotate", 90, "--rate", 100)
    code, _, _ = rmatk("infer", bundle, *arguments, "--images", "out")
    with Image.open(next(Path("out").iterdir())) as picture:
        assert code == 0 and picture.width / picture.height == 64 / 96


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--rotate", "45"), 2, "--rotate must be 0, 90, 180 or 270, not 45"),
        (("--size", "big"), 2, "--size must be written as 640x480, not big"),
        (("--flip", "over"), 2, "--flip must be horizontal or vertical, not over"),
        (("--loop", "--timeout", "3"), 1, "does not support --timeout"),
    ],
)
def test_what_a_source_cannot_be_told_is_named(
    bundle: Path, photos: Path, rmatk: Rmatk, arguments: tuple[str, ...], code: int, message: str
) -> None:
    left, _, errors = rmatk("infer", bundle, photos, *arguments)
    assert left == code and message in errors
