"""Engines inside a bundle: ``engines/STEM.engine``, a plain TensorRT plan, and ``STEM.json`` beside it.

The plan has nothing put in front of it, so trtexec, DeepStream and Triton load it too (a prefix with metadata
broke them elsewhere: ultralytics/ultralytics #19423, #4597). The sidecar says what the plan was built for. It
is written last, so an engine without one is half-written. A plan is code: it is given to TensorRT only if its
SHA-256 is the sidecar's.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from rmatk_runtime.bundle import Bundle
from rmatk_runtime.bundle.manifest import Input
from rmatk_runtime.errors import BackendError, BundleError, command
from rmatk_runtime.files import cache_folder, contained, sha256_file, write_atomic
from rmatk_runtime.formats import Format
from rmatk_runtime.parity.stage import StageResult
from rmatk_runtime.tensorrt.key import BatchProfile, EngineKey, Machine, differences
from rmatk_runtime.tensorrt.machine import this_machine
from rmatk_runtime.trust.signature import Signature

ENGINES_FOLDER = "engines"
_LARGEST_SIDECAR = 8 << 20  # bytes


class Sidecar(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is known of one plan.

    ``size`` in bytes and ``sha256`` of the plan; ``built``: date and time; ``seconds`` of building;
    ``layers`` of the network given to the builder; ``parity``: the stages checked on the GPU, None where
    none were.
    """

    format: Literal["rmatk-engine"] = "rmatk-engine"
    version: Literal[1] = 1
    minor: int = 0
    key: EngineKey
    size: int
    sha256: str
    built: str
    seconds: float
    layers: int
    parity: tuple[StageResult, ...] | None = None


_SIDECAR = Format(Sidecar, decisive=("key",))


@dataclass(frozen=True)
class BuiltEngine:
    """A plan on disk, its sidecar, and where kernels made of it are kept; None: beside the plan."""

    path: Path
    sidecar: Sidecar
    kernels: Path | None = None

    @property
    def key(self) -> EngineKey:
        """What it was built for."""
        return self.sidecar.key

    def read(self) -> bytes:
        """The plan, for TensorRT to deserialise.

        Raises:
            BackendError: it cannot be read, or is not the plan that the sidecar describes.
        """
        try:
            plan = self.path.read_bytes()
        except OSError as error:
            raise BackendError(f"{self.path} cannot be read: {error.strerror}", _REBUILD) from error
        except MemoryError as error:
            raise BackendError(
                f"{self.path} ({self.sidecar.size / 1e6:.0f} MB) does not fit into this machine's memory",
                "close other programs, add swap, or take a smaller one: --precision int8",
            ) from error
        if hashlib.sha256(plan).hexdigest() != self.sidecar.sha256:
            raise BackendError(f"{self.path} was altered: its SHA-256 is not the sidecar's", _REBUILD)
        return plan


@dataclass(frozen=True)
class FoundEngine:
    """A plan found in a bundle; ``engine`` is None where its sidecar cannot be used.

    ``reasons``: why it must not be used here, in words; empty where it may.
    """

    path: Path
    engine: BuiltEngine | None
    reasons: tuple[str, ...]

    @property
    def usable(self) -> bool:
        """Whether it may be used here."""
        return not self.reasons


_REBUILD = "build it again on this machine: rmatk export BUNDLE --trt"


def rebuild_command(bundle: Bundle, precision: str, kind: Input = "images") -> str:
    """The command that builds an engine of ``precision`` for this machine."""
    pixels = ["--pixels"] if kind == "pixels" else []
    return command("rmatk", "export", bundle.path, "--trt", "--precision", precision, *pixels)


def write_engine(
    bundle: Bundle, plan: bytes, *, key: EngineKey, built: str, seconds: float, layers: int
) -> BuiltEngine:
    """Put a plan and its sidecar into the bundle, replacing one of the same key.

    Raises:
        StorageError: disk full, no permission.
    """
    path = bundle.path / ENGINES_FOLDER / f"{key.stem()}.engine"
    _sidecar_path(path).unlink(missing_ok=True)
    kernels_path(path).unlink(missing_ok=True)
    write_atomic(path, plan)
    sidecar = Sidecar(
        key=key,
        size=len(plan),
        sha256=hashlib.sha256(plan).hexdigest(),
        built=built,
        seconds=seconds,
        layers=layers,
    )
    return write_sidecar(BuiltEngine(path, sidecar))


def write_sidecar(engine: BuiltEngine) -> BuiltEngine:
    """Write an engine's sidecar as it stands, for example with its parity.

    Raises:
        StorageError: disk full, no permission.
    """
    write_atomic(_sidecar_path(engine.path), _SIDECAR.encode(engine.sidecar))
    return engine


def delete_engine(engine: BuiltEngine) -> None:
    """Remove a plan, its sidecar and kept kernels, the sidecar first."""
    _sidecar_path(engine.path).unlink(missing_ok=True)
    kernels_path(engine.path).unlink(missing_ok=True)
    engine.path.unlink(missing_ok=True)


def kernels_path(plan: Path) -> Path:
    """Where kernels that TensorRT for RTX made of a plan are kept."""
    return plan.with_suffix(".kernels")


def survey(bundle: Bundle, here: Machine | None = None) -> list[FoundEngine]:
    """Every plan in the bundle, by name, with all reasons against using it here.

    Without ``here``, TensorRT is loaded and the GPU asked for only where there is a plan.
    """
    plans = sorted((bundle.path / ENGINES_FOLDER).glob("*.engine"))
    here = here or (this_machine() if plans else None)
    return [] if here is None else [_examine(bundle, path, here) for path in plans]


def find_engine(
    bundle: Bundle,
    here: Machine | None = None,
    *,
    precision: str | None = None,
    batch: int = 1,
    kind: Input = "images",
) -> BuiltEngine:
    """The engine of a bundle that may be used here: of those that fit, the one built for the nearest batch.

    Args:
        bundle: a verified bundle.
        here: the machine, None for this one.
        precision: of the graph; None for the bundle's first.
        batch: the size wanted most; other sizes run too, filled up or split.
        kind: what the engine is to take.

    Raises:
        BackendError: there is none; names every engine of that precision with the reasons against it.
    """
    wanted = bundle.graph(precision).precision
    usable: list[BuiltEngine] = []
    refused = []
    for found in survey(bundle, here):
        if found.engine is not None and found.engine.key.input != kind:
            continue
        if found.engine is not None and found.usable:
            usable.append(found.engine)
        elif found.engine is None or found.engine.key.precision == wanted:
            refused.append(f"  {found.path.name}: {'; '.join(found.reasons)}")
    fitting = [engine for engine in usable if engine.key.precision == wanted]
    if fitting:
        return min(fitting, key=lambda engine: _distance(engine.key.batch, batch))
    on = "" if kind == "images" else f" on {kind}"
    message = f"{bundle.path} holds no {wanted} engine{on} that runs here"
    cure = rebuild_command(bundle, wanted, kind)
    if usable:
        cure += f"; or use the one that does: --precision {usable[0].key.precision}"
    raise BackendError("\n".join([message, *refused]), cure)


def _distance(profile: BatchProfile, batch: int) -> tuple[bool, int]:
    """How far a profile is from a batch size: one that holds it comes first."""
    return not profile.min <= batch <= profile.max, abs(profile.opt - batch)


def _examine(bundle: Bundle, path: Path, here: Machine) -> FoundEngine:
    """Read and check one plan's sidecar, then compare with the bundle and the machine."""
    file = _sidecar_path(path)
    try:
        contained(bundle.path, path)
        with contained(bundle.path, file).open("rb") as opened:
            sidecar, _ = _SIDECAR.decode(opened.read(_LARGEST_SIDECAR))
    except BundleError as error:
        return FoundEngine(path, None, (error.message,))
    except OSError:
        return FoundEngine(path, None, (f"its sidecar {file.name} is missing",))
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        return FoundEngine(path, None, (f"its sidecar {file.name} cannot be read: {error}",))
    reasons = [*_plan_reasons(path, sidecar), *_graph_reasons(bundle, sidecar.key)]
    kernels = None
    if bundle.signature is not None:  # kernels change as they are used, so no signature covers them
        reasons += _signature_reasons(bundle.signature, file)
        kernels = cache_folder() / "kernels" / f"{sidecar.sha256}.kernels"
    engine = BuiltEngine(path, sidecar, kernels)
    return FoundEngine(path, engine, (*reasons, *differences(sidecar.key, here)))


def _signature_reasons(signature: Signature, sidecar: Path) -> list[str]:
    """A plan is code: with trusted keys it is used only where a trusted key has signed its sidecar."""
    if signature.engines.get(sidecar.name) == sha256_file(sidecar):
        return []
    return ["it is not signed: rmatk sign BUNDLE --key FILE, on the machine that built it"]


def _plan_reasons(path: Path, sidecar: Sidecar) -> list[str]:
    size = path.stat().st_size
    if size != sidecar.size:
        return [f"the plan has {size} bytes, its sidecar says {sidecar.size}"]
    if sha256_file(path) != sidecar.sha256:
        return ["the plan was altered: its SHA-256 is not the sidecar's"]
    return []


def _graph_reasons(bundle: Bundle, key: EngineKey) -> list[str]:
    for graph in bundle.manifest.graphs:
        if (graph.precision, graph.input) == (key.precision, key.input):
            now = bundle.manifest.graph_digest(graph.file)
            if now == key.onnx_sha256:
                return []
            return [f"built from another {graph.file} (SHA-256 {key.onnx_sha256[:12]}, now {now[:12]})"]
    return [f"the bundle holds no {key.precision} graph on {key.input} any more"]


def _sidecar_path(plan: Path) -> Path:
    return plan.with_suffix(".json")
