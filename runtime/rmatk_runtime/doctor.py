"""What this machine can do, why not, and the cure: the answers behind ``rmatk doctor``."""

from __future__ import annotations

from pathlib import Path

from rmatk_runtime.errors import BackendError, RmatkError
from rmatk_runtime.gpu import list_gpus
from rmatk_runtime.probes import Probe
from rmatk_runtime.probes.accelerators import probe_cuda, probe_gpu
from rmatk_runtime.probes.jetson import jetson_model, probe_clocks, probe_power_mode, probe_swap
from rmatk_runtime.probes.media import probe_cameras, probe_csi, probe_ffmpeg, probe_gstreamer
from rmatk_runtime.probes.onnx_runtime import probe_onnxruntime
from rmatk_runtime.probes.packages import probe_extras
from rmatk_runtime.probes.system import probe_disk, probe_memory, probe_platform, probe_python
from rmatk_runtime.probes.tensorrt import probe_tensorrt, probe_tensorrt_rtx

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


def probe_bundle(bundle: Path) -> Probe:
    """Verify a bundle, load it and classify one grey picture."""
    from rmatk_runtime.classifier import Classifier
    from rmatk_runtime.sources import open_source

    try:
        with Classifier.open(bundle) as classifier, open_source("test://?frames=1&live=0") as source:
            (frame,) = source
            classifier.classify([frame.image])
            text = f"{bundle} runs on {classifier.backend.name}, {len(classifier.labels)} labels"
            return Probe("bundle", True, text)
    except RmatkError as error:
        return Probe("bundle", False, error.message, error.hint)
