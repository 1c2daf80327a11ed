"""Collects the probes of this machine for ``rmatk doctor``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rmatk_runtime.doctor.accelerators import probe_cuda, probe_gpu
from rmatk_runtime.doctor.jetson import probe_clocks, probe_power_mode, probe_swap
from rmatk_runtime.doctor.media import probe_cameras, probe_csi, probe_ffmpeg, probe_gstreamer
from rmatk_runtime.doctor.onnx_runtime import probe_onnxruntime
from rmatk_runtime.doctor.packages import probe_extras
from rmatk_runtime.doctor.probe import Probe
from rmatk_runtime.doctor.system import probe_disk, probe_memory, probe_platform, probe_python
from rmatk_runtime.doctor.tensorrt import probe_tensorrt, probe_tensorrt_rtx
from rmatk_runtime.errors import BackendError, RmatkError
from rmatk_runtime.nvidia.driver import list_gpus
from rmatk_runtime.platform import jetson_model

if TYPE_CHECKING:
    from rmatk_runtime.bundle import Bundle
    from rmatk_runtime.tensorrt.store import FoundEngine

__all__ = ["Probe", "examine", "probe_bundle"]


def examine(root: Path = Path("/")) -> dict[str, list[Probe]]:
    """Probe everything, one result per capability, under headings in the order a newcomer needs them."""
    jetson = jetson_model(root) is not None
    try:
        gpus = list_gpus()
    except BackendError:  # probe_gpu says why
        gpus = []
    machine = [probe_python(), probe_platform(root), probe_memory(root), probe_disk()]
    if jetson:
        machine += [probe_swap(root), probe_power_mode(root), probe_clocks(root)]
    return {
        "this machine": machine,
        "engines": [
            *probe_onnxruntime(jetson=jetson, gpu=bool(gpus)),
            probe_gpu(jetson=jetson, root=root),
            probe_cuda(),
            probe_tensorrt(gpus, jetson=jetson, root=root),
            probe_tensorrt_rtx(gpus, jetson=jetson),
        ],
        "cameras and video": [
            probe_ffmpeg(),
            probe_gstreamer(),
            probe_cameras(root),
            probe_csi(jetson=jetson),
        ],
        "extras": probe_extras(jetson=jetson),
    }


def probe_bundle(path: Path) -> list[Probe]:
    """Each engine in a bundle, and last whether the bundle itself runs: on one grey picture."""
    from rmatk_runtime.bundle import Bundle
    from rmatk_runtime.inference.classifier import Classifier
    from rmatk_runtime.sources import open_source
    from rmatk_runtime.tensorrt.store import survey

    engines: list[Probe] = []
    try:
        bundle = Bundle.open(path)
        engines = [_probe_engine(bundle, found, place) for place, found in enumerate(survey(bundle), start=1)]
        with Classifier.open(path) as classifier, open_source("test://?frames=1&live=0") as source:
            (frame,) = source
            classifier.classify([frame.image])
            text = f"{path} runs on {classifier.backend.name}, {len(classifier.labels)} labels"
            return [*engines, Probe("bundle", True, text)]
    except RmatkError as error:
        return [*engines, Probe("bundle", False, error.message, error.hint)]


def _probe_engine(bundle: Bundle, found: FoundEngine, place: int) -> Probe:
    """Whether one engine may be used here, or every reason against it."""
    from rmatk_runtime.tensorrt.machine import first_gpu
    from rmatk_runtime.tensorrt.store import rebuild_command

    name = f"engine {place}"
    if found.engine is None or not found.usable:
        precision = found.engine.key.precision if found.engine else bundle.graph(None).precision
        reason = f"{found.path.name}: {'; '.join(found.reasons)}"
        if first_gpu() is None:  # it is for another machine: building it again here would not help
            return Probe(name, False, reason, optional=True)
        return Probe(name, False, reason, rebuild_command(bundle, precision))
    parity = "parity checked" if found.engine.sidecar.parity else "parity not checked: rmatk parity"
    return Probe(name, True, f"{found.path.name}: usable here, {parity}")
