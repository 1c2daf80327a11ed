"""Two processes that share every batch end where one ends."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from rmatk.config import TrainConfig
from rmatk.training import distributed
from rmatk.training.train import train

CONFIG = TrainConfig(
    shots=5, epochs=3, batch=7, lr=0.01, rank=4, image_con_weight=0.2, text_con_weight=0.3, precision="fp32"
)
"""15 photos in batches of 7, 7 and 1: of the last, one process has nothing."""

SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from conftest import build_tiny_clip
from test_distributed import CONFIG
from rmatk.training import distributed
from rmatk.config import Execution
from rmatk.training.train import train

with distributed.group("cpu") as device:
    every = Execution(checkpoint_every=0)
    run = train(CONFIG, build_tiny_clip(), Path({photos!r}), Path({out!r}), execution=every)
    assert len(run.adapter) == 32 and distributed.size() == 2
"""


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def test_two_processes_give_the_weights_of_one(tiny, photos, tmp_path):
    alone = train(CONFIG, tiny, photos, tmp_path / "alone")
    tests = Path(__file__).parents[2]
    script = SCRIPT.format(tests=str(tests), photos=str(photos), out=str(tmp_path / "together"))
    shared = {  # what torchrun sets
        **os.environ,
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), os.environ["PYTHONPATH"]]),
    }
    command = [sys.executable, "-c", script]
    ranks = [
        subprocess.Popen(
            command, env={**shared, "RANK": str(n), "LOCAL_RANK": str(n)}, stderr=subprocess.PIPE
        )
        for n in range(2)
    ]
    said = [rank.communicate(timeout=120)[1].decode() for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], said

    from rmatk.run import load_run

    together = load_run(tmp_path / "together")
    for name, value in alone.adapter.items():
        np.testing.assert_allclose(together.adapter[name], value, rtol=0, atol=1e-6, err_msg=name)
    assert together.record.metrics == alone.record.metrics
    logs = [(tmp_path / name / "metrics.jsonl").read_text().splitlines() for name in ("alone", "together")]
    assert len(logs[0]) == len(logs[1]) == 9
    import json

    for a, b in zip(*logs, strict=True):
        assert json.loads(b) == pytest.approx(json.loads(a), rel=1e-5, abs=1e-6)
    assert {f.name for f in tmp_path.iterdir()} == {"photos", "alone", "together"}


def test_alone_nothing_is_exchanged():
    chosen = torch.arange(5)
    assert distributed.share(chosen) is chosen
    assert distributed.is_main() and distributed.size() == 1
    values = {"loss": 1.0}
    assert distributed.sum_values(values, torch.device("cpu")) is values
    with distributed.group("cpu") as device:
        assert device == "cpu"
