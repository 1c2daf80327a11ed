"""A bundle -> files for Triton and DeepStream, and the report printed about them."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from rmatk.cli.console import TRAINED_ON, print_next, print_stages, print_table
from rmatk_runtime.errors import command

if TYPE_CHECKING:
    from rmatk_export.serving.record import Served
    from rmatk_export.serving.triton import TritonOptions
    from rmatk_runtime.bundle.manifest import Precision
    from rmatk_runtime.tensorrt.key import BatchProfile


@dataclass(frozen=True)
class Wanted:
    """Where to write what; falsy where nothing was asked for."""

    triton: Path | None
    backend: Literal["onnxruntime", "tensorrt"]
    name: str | None
    deepstream: Path | None
    batch: BatchProfile

    def __bool__(self) -> bool:
        return self.triton is not None or self.deepstream is not None

    def check(self, bundle: Path) -> None:
        """Refuse before the long work what would be refused after it.

        Raises:
            MissingExtraError: onnx is not installed.
            ExportError: a name or batches that Triton cannot use.
            StorageError: a folder holds something else.
        """
        from rmatk_runtime.errors import MissingExtraError
        from rmatk_runtime.files import check_replaceable

        if not self:
            return
        if importlib.util.find_spec("onnx") is None:
            raise MissingExtraError("onnx, which writes the graphs for servers,", "export")
        from rmatk_export.serving.record import marker

        if self.triton is not None:
            check_replaceable(self.triton, marker=marker("triton"))
            self.options(bundle)
        if self.deepstream is not None:
            check_replaceable(self.deepstream, marker=marker("deepstream"))

    def options(self, bundle: Path) -> TritonOptions:
        """Triton's options; the models are named after the bundle's folder, by default."""
        from rmatk_export.serving.triton import TritonOptions

        folder = re.sub(r"[^A-Za-z0-9_.-]+", "_", bundle.resolve().name).lstrip("_.-")
        return TritonOptions(
            self.name if self.name is not None else folder or "rmatk", self.backend, self.batch
        )


def write(path: Path, precision: Precision | None, wanted: Wanted) -> dict[Path, Served]:
    """Write and check each folder that was asked for -> its record."""
    from rmatk_export.serving.deepstream import write_deepstream
    from rmatk_export.serving.triton import write_triton
    from rmatk_runtime.bundle import Bundle

    bundle = Bundle.open(path)
    served: dict[Path, Served] = {}
    if wanted.triton is not None:
        options = wanted.options(path)
        served[wanted.triton] = write_triton(bundle, wanted.triton, options, precision=precision)
    if wanted.deepstream is not None:
        served[wanted.deepstream] = write_deepstream(
            bundle, wanted.deepstream, batch=wanted.batch.opt, precision=precision
        )
    return served


def record(served: dict[Path, Served]) -> dict[str, Any]:
    """What ``--json`` prints of them."""
    return {
        each.server: {"folder": str(path), **msgspec.structs.asdict(each)} for path, each in served.items()
    }


def show(served: dict[Path, Served]) -> None:
    """Parity and files of each folder, and how its server is started."""

    for path, each in served.items():
        print_stages(f"{each.server}: parity with the bundle's own answers", each.stages, TRAINED_ON)
        files = sorted(file for file in path.rglob("*") if file.is_file())
        rows = [(str(file.relative_to(path)), f"{file.stat().st_size / 1e6:.2f}") for file in files]
        print_table(str(path), ("file", "MB"), rows)
    print_next(*(_START[each.server].format(folder=command(path)) for path, each in served.items()))


_START = {
    "triton": "tritonserver --model-repository={folder}    # docs/SERVING.md has the container and a client",
    "deepstream": "... ! nvinfer config-file-path={folder}/config_infer.txt ! ...    # see docs/SERVING.md",
}
