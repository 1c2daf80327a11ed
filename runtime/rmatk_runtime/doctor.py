"""What this machine can do, why not, and the cure: the answers behind ``rmatk doctor``."""

from __future__ import annotations

from pathlib import Path

from rmatk_runtime.errors import RmatkError
from rmatk_runtime.probes import Probe
from rmatk_runtime.probes.accelerators import probe_gpu, probe_providers, probe_tensorrt
from rmatk_runtime.probes.media import probe_cameras, probe_csi, probe_ffmpeg, probe_gstreamer
from rmatk_runtime.probes.packages import probe_extras, probe_onnxruntime_clash
from rmatk_runtime.probes.system import (
    jetson_model,
    probe_disk,
    probe_memory,
    probe_platform,
    probe_python,
)

__all__ = ["Probe", "examine", "probe_bundle"]


def examine(bundle: Path | None = None) -> list[Probe]:
    """Probe everything, one result per capability; with ``bundle``, the last says whether it runs here."""
    jetson = jetson_model() is not None
    probes = [
        probe_python(),
        probe_platform(),
        probe_memory(),
        probe_disk(),
        *probe_extras(jetson=jetson),
        probe_onnxruntime_clash(),
        probe_providers(),
        probe_gpu(),
        probe_tensorrt(jetson=jetson),
        probe_ffmpeg(),
        probe_gstreamer(),
        probe_cameras(),
        probe_csi(jetson=jetson),
    ]
    if bundle is not None:
        probes.append(probe_bundle(bundle))
    return probes


def probe_bundle(bundle: Path) -> Probe:
    """Verify a bundle, load it and classify one grey picture."""
    from rmatk_runtime.classifier import Classifier
    from rmatk_runtime.sources.pattern import PatternSource

    try:
        with Classifier.open(bundle) as classifier, PatternSource("test://?frames=1&live=0") as source:
            (frame,) = source
            classifier.classify([frame.image])
            text = f"{bundle} runs on {classifier.backend.name}, {len(classifier.labels)} labels"
            return Probe("bundle", True, text)
    except RmatkError as error:
        return Probe("bundle", False, error.message, error.hint)
