"""A run that was interrupted at any moment goes on to the same bytes as one that was not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from rmatk.cli import app, commands  # noqa: F401 - registers the commands
from rmatk.config import Execution, TrainConfig
from rmatk.training.checkpoint import CHECKPOINT, partial_folder
from rmatk.training.train import train
from rmatk_runtime.errors import RunError, StorageError

CONFIG = TrainConfig(shots=4, epochs=2, batch=5, lr=0.01, rank=4, precision="fp32")
EVERY_STEP = Execution(checkpoint_every=0)
STEPS = 6


class Stopping:
    """Raises once ``after`` steps are done; records the steps."""

    def __init__(self, after: int = 10**9) -> None:
        self.after, self.heard = after, []

    def __call__(self, step):
        self.heard.append(step.step)
        if step.step == self.after:
            raise KeyboardInterrupt


def contents(run: Path) -> tuple[bytes, bytes]:
    return (run / "adapter.safetensors").read_bytes(), (run / "metrics.jsonl").read_bytes()


@pytest.mark.parametrize("settings", [{}, {"optimizer": "sgd"}, {"augment": True}], ids=str)
def test_stopped_after_any_step_it_goes_on_to_the_same_bytes(tiny, photos, tmp_path, settings):
    config = msgspec.structs.replace(CONFIG, **settings)
    whole = contents(train(config, tiny, photos, tmp_path / "whole").path)
    for after in range(1, STEPS + 1):
        out = tmp_path / f"run{after}"
        with pytest.raises(KeyboardInterrupt):
            train(config, tiny, photos, out, Stopping(after), EVERY_STEP)
        assert not out.exists()
        second = Stopping()
        assert contents(train(config, tiny, photos, out, second, EVERY_STEP).path) == whole
        assert second.heard == list(range(after + 1, STEPS + 1))
        assert not partial_folder(out).exists()


SCRIPT = """
import sys, time
sys.path.insert(0, {tests!r})
from pathlib import Path
from conftest import build_tiny_clip
from test_checkpoint import CONFIG
from rmatk.config import Execution
from rmatk.training.train import train
import msgspec

def slowly(step):
    time.sleep(0.01)

config = msgspec.structs.replace(CONFIG, epochs=40)
train(config, build_tiny_clip(), Path({photos!r}), Path({out!r}), slowly, Execution(checkpoint_every=0.1))
"""


def test_killed_in_the_middle_it_goes_on_to_the_same_bytes(tiny, photos, tmp_path):
    config = msgspec.structs.replace(CONFIG, epochs=40)
    whole = contents(train(config, tiny, photos, tmp_path / "whole").path)
    out = tmp_path / "run"
    tests = Path(__file__).parents[2]
    script = SCRIPT.format(tests=str(tests), photos=str(photos), out=str(out))
    path = os.pathsep.join([str(Path(__file__).parent), os.environ["PYTHONPATH"]])
    child = subprocess.Popen([sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": path})
    try:
        checkpoint = partial_folder(out) / CHECKPOINT
        log = partial_folder(out) / "metrics.jsonl"
        deadline = time.monotonic() + 60
        while not (checkpoint.exists() and len(log.read_text().splitlines()) > 20):
            assert child.poll() is None and time.monotonic() < deadline
            time.sleep(0.002)
        with pytest.raises(StorageError, match="another process is training into"):
            train(config, tiny, photos, out)
        child.send_signal(signal.SIGKILL)
    finally:
        child.kill()
        assert child.wait() == -signal.SIGKILL
    assert not out.exists()
    second = Stopping()
    assert contents(train(config, tiny, photos, out, second).path) == whole
    assert 1 < second.heard[0] <= len(log_steps(whole[1]))
    assert log_steps(whole[1]) == list(range(1, 121))


def log_steps(log: bytes) -> list[int]:
    return [json.loads(line)["step"] for line in log.splitlines()]


@pytest.fixture
def stopped(tiny, photos, tmp_path):
    """A run's target with a checkpoint of step 3 beside it."""
    out = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        train(CONFIG, tiny, photos, out, Stopping(3), EVERY_STEP)
    return out


def test_other_arguments_are_refused_by_name_and_keep_the_checkpoint(tiny, photos, stopped):
    other = msgspec.structs.replace(CONFIG, lr=0.02, image_blocks=1)
    with pytest.raises(RunError, match="--lr was 0.01, now 0.02") as caught:
        train(other, tiny, photos, stopped)
    assert "--image-blocks was 2, now 1" in caught.value.message
    assert "--fresh" in (caught.value.hint or "")
    heard = Stopping()
    train(CONFIG, tiny, photos, stopped, heard)
    assert heard.heard[0] == 4


def test_other_photos_and_another_backbone_are_refused(tiny, tiny_clip, photos, stopped):
    with pytest.raises(RunError, match="the backbone's weights are others"):
        train(CONFIG, tiny_clip(seed=1), photos, stopped)
    (photos / "blue_dot").rename(photos / "blue_spot")
    with pytest.raises(RunError, match="the photos are others"):
        train(CONFIG, tiny, photos, stopped)


def test_fresh_begins_anew(tiny, photos, stopped):
    heard = Stopping()
    train(msgspec.structs.replace(CONFIG, lr=0.02), tiny, photos, stopped, heard, Execution(fresh=True))
    assert heard.heard[0] == 1


@pytest.mark.parametrize("damage", [lambda data: data[:100], lambda data: b"", lambda data: data[:-9]])
def test_a_damaged_checkpoint_is_named(tiny, photos, stopped, damage):
    checkpoint = partial_folder(stopped) / CHECKPOINT
    checkpoint.write_bytes(damage(checkpoint.read_bytes()))
    with pytest.raises(RunError, match=r"checkpoint\.safetensors cannot be resumed from") as caught:
        train(CONFIG, tiny, photos, stopped)
    assert "--fresh" in (caught.value.hint or "")


def test_a_run_that_diverged_is_not_resumed(tiny, photos, tmp_path, monkeypatch):
    import rmatk.training.fit

    heard = Stopping()
    sound = rmatk.training.fit._check_finite

    def failing(values, step):
        sound({**values, "ce": float("nan")} if step == 4 else values, step)

    monkeypatch.setattr(rmatk.training.fit, "_check_finite", failing)
    with pytest.raises(RunError, match="at step 4 the term ce"):
        train(CONFIG, tiny, photos, tmp_path / "run", heard, EVERY_STEP)
    assert heard.heard == [1, 2, 3]
    assert {f.name for f in tmp_path.iterdir()} == {"photos"}


def test_ctrl_c_keeps_the_checkpoint_and_says_how_to_go_on(tiny, photos, tmp_path, monkeypatch):
    monkeypatch.setattr("rmatk.backbones.backbone.load_backbone", lambda name, pretrained, device: tiny)
    command = [
        "train",
        str(photos),
        "-o",
        str(tmp_path / "run"),
        "--shots",
        "4",
        "--epochs",
        "2",
        "--batch",
        "5",
    ]
    with monkeypatch.context() as patch:
        patch.setattr("rmatk.cli.train._Bars.step", Stopping(4))
        stopped = CliRunner().invoke(app, [*command, "--checkpoint-every", "0"])
    assert stopped.exit_code == 130
    assert ".run.partial" in stopped.output and "the same command continues" in stopped.output
    assert CliRunner().invoke(app, [*command, "--seed", "2"]).exit_code == 1
    assert CliRunner().invoke(app, command).exit_code == 0
    steps = log_steps((tmp_path / "run" / "metrics.jsonl").read_bytes())
    assert steps == list(range(1, STEPS + 1))
