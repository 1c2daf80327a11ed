"""What benchmarks share: settings from flags, data by name, bundles, progress, the last line."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import torch

from rmatk.backbones.backbone import MICRO
from rmatk.cli.export.run import export_run
from rmatk.config import TrainConfig, configured
from rmatk.data.formats import Splits, open_splits
from rmatk.evaluation.protocol_tables import markdown
from rmatk.evaluation.protocols import ProtocolResult
from rmatk.scenes.photos import write_photos
from rmatk_export.bundle_writer import ExportReport
from rmatk_runtime.bundle.manifest import Precision

RENDERED = "rendered"
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")


def parser(description: str) -> argparse.ArgumentParser:
    """The flags that every protocol benchmark has."""
    p = argparse.ArgumentParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    p.add_argument("--model", default=MICRO)
    p.add_argument("--pretrained", help="open_clip tag, or a local file of weights")
    p.add_argument("--seeds", default="1,2,3")
    p.add_argument("--methods", default="zero-shot,adapter-only,rmadapter")
    p.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of rmatk train"
    )
    p.add_argument("--device", default="cpu")
    p.add_argument("--threads", type=int, default=torch.get_num_threads())
    p.add_argument("--json", action="store_true", help="only one JSON object, on the last line of stdout")
    return p


def config(args: argparse.Namespace, settings: list[str]) -> TrainConfig:
    """The defaults of ``rmatk train`` with ``NAME=VALUE`` settings over them."""
    given = dict(setting.split("=", 1) for setting in settings)
    return configured(
        TrainConfig, {"model": args.model, "pretrained": args.pretrained, **given}, strict=False
    )


@contextmanager
def opened(data: str, seed: int = 0, train: int = 16) -> Iterator[Splits]:
    """A data set by path, or the rendered one, which is rendered again."""
    if data != RENDERED:
        yield open_splits(data)
        return
    with tempfile.TemporaryDirectory() as place:
        yield open_splits(write_photos(Path(place) / RENDERED, train=train, seed=seed))


class Lines:
    """Prints on the error stream what has been measured, one line per method and seed."""

    def __init__(self) -> None:
        self._done = 0

    def __call__(self, what: str, done: int, total: int) -> None:
        """See :data:`~rmatk_runtime.progress.OnProgress`."""
        if done > self._done:
            self._done = done
            print(what, file=sys.stderr, flush=True)


def export_every_precision(folder: Path, golden: int) -> ExportReport:
    """``folder/run`` -> ``folder/bundle`` in all of :data:`PRECISIONS`, checked on ``golden`` pictures."""
    return export_run(
        folder / "run",
        folder / "bundle",
        data=None,
        golden=golden,
        precisions=PRECISIONS,
        pixels=False,
        quiet=True,
    )


def finish(result: ProtocolResult, as_json: bool) -> None:
    """Print the table unless only JSON is wanted, and the JSON object on the last line."""
    if not as_json:
        print(markdown(result))
    print(msgspec.json.encode(result).decode())
