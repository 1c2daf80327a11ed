"""Bisecting: the first node of an image graph that does not compute what it should.

Every node of a written graph has a name that says where it belongs, and the graphs of all precisions give
equal names to equal values (``graph/encoder.py``), with only casts and Q/DQ pairs between them. So the
failing graph is run in ONNX Runtime with every such value as an output, and each is compared with a
reference: the float32 graph, evaluated node by node in float64 by ONNX's reference implementation, which is
independent of every engine. If the reference is written again from the run's folded arrays, it is
independent of the bundle too, and finds a changed weight. The bundle's own float32 graph is the reference
for fp16 and int8, and finds an engine that computes wrongly. An int8 product and the bias that corrects it
(``int8/graph.py``) count as one.

A deviation grows and shrinks in the norms and sums of a tower, so no limit on it shows where it began. What
a node itself adds can be measured exactly: the reference operation, with the reference's weights, is applied
to the inputs that the node received, and compared with its output. This *own* deviation is a rounding error
in a correct node, whatever came before. The first node with more of it than its arithmetic can have
(:data:`NODE_BOUNDS`) is where the graph diverges. Later ones may follow: the range of an int8 product does
not fit what an earlier fault produces.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from rmatk_export.graph.sessions import graph_session
from rmatk_export.graph.storage import load_graph
from rmatk_export.parity.reference_graph import Step, double, steps_of
from rmatk_runtime.arrays import Array, Float32
from rmatk_runtime.bundle import Bundle
from rmatk_runtime.bundle.manifest import Precision
from rmatk_runtime.errors import BundleError
from rmatk_runtime.onnx_runtime.backend import CPU, OnnxRuntimeBackend, create_session, fetch
from rmatk_runtime.parity.stage import Bisection, GraphSource, NodeDeviation, StageResult
from rmatk_runtime.parity.walk import EncoderCandidate
from rmatk_runtime.progress import OnProgress, no_progress

_IMAGES = 2


def bisect_stages(
    bundle: Bundle,
    candidates: Sequence[EncoderCandidate],
    stages: Sequence[StageResult],
    tensor: Callable[[str], Float32],
    *,
    reference: onnx.ModelProto | None = None,
    on_progress: OnProgress = no_progress,
) -> list[Bisection]:
    """Bisect every stage of ONNX Runtime that failed, or all of them where none did.

    Args:
        bundle: what was checked.
        candidates: what was checked; only ONNX Runtime shows inner values.
        stages: what parity found.
        tensor: an image by its name in the stages -> (3, H, W) float32 normalised.
        reference: the float32 graph as the run gives it; None: the bundle's own.
        on_progress: called with the stage and the number of nodes done.

    Raises:
        BundleError: no reference was given and the bundle has no float32 graph.
        BackendError: ONNX Runtime does not run a graph.
    """
    results = {stage.stage: stage for stage in stages}
    shown = [
        (one, one.backend)
        for one in candidates
        if isinstance(one.backend, OnnxRuntimeBackend) and one.name in results and one.input == "images"
    ]
    failed = [(one, backend) for one, backend in shown if not results[one.name]]
    source: GraphSource = "run"
    if reference is None:
        source, reference = "bundle", _full_graph(bundle)
    return [
        bisect(
            one.name,
            backend.path,
            reference,
            np.stack([tensor(image) for image in results[one.name].worst[:_IMAGES]]),
            source="itself" if (source, one.precision) == ("bundle", "fp32") else source,
            provider=backend.provider,
            on_progress=on_progress,
        )
        for one, backend in failed or shown
    ]


def _full_graph(bundle: Bundle) -> onnx.ModelProto:
    if all(graph.precision != "fp32" for graph in bundle.graphs()):
        raise BundleError(
            f"{bundle.path} holds no fp32 graph to hold the others against",
            "take the run's: rmatk parity BUNDLE DATA --against RUN --bisect",
        )
    return load_graph(bundle.file(bundle.graph("fp32").file))


def bisect(
    stage: str,
    candidate: Path,
    reference: onnx.ModelProto,
    images: Float32,
    *,
    source: GraphSource = "bundle",
    provider: str = CPU,
    on_progress: OnProgress = no_progress,
) -> Bisection:
    """Hold every node of an image graph against the reference.

    Args:
        stage: the name of the parity stage, for the report.
        candidate: the graph under suspicion, of any precision.
        reference: a float32 image graph, whose numbers count as right.
        images: (N, 3, H, W) float32 normalised; one is run at a time, since all values are kept.
        source: whose graph the reference is, for the report.
        provider: of ONNX Runtime, for the candidate.
        on_progress: called with the stage and the number of nodes done, over all images.

    Raises:
        BundleError: the candidate lacks a value that the reference has.
        BackendError: ONNX Runtime does not run the candidate.
    """
    model = load_graph(candidate)
    steps = steps_of(reference, seen={name for node in model.graph.node for name in node.output})
    whole = create_session(candidate, provider)
    fused: list[float] = []
    measured: list[list[tuple[float, ...]]] = [[] for _ in steps]
    kinds: dict[str, np.dtype[Any]] = {}
    last_reader = {name: number for number, step in enumerate(steps) for name in step.inputs}
    for image, found in _runs(model, [name for step in steps for name in step.node.output], images, provider):
        kinds = {name: value.dtype for name, value in found.items()}
        right: dict[str, Array] = {"images": image}
        for number, (step, figures) in enumerate(zip(steps, measured, strict=True)):
            right |= step.apply(right)
            figures.append(_measure(step, found, right))
            for name in {name for name in step.inputs if last_reader[name] == number}:
                del right[name], found[name]  # gigabytes, in a large tower
            on_progress(stage, (len(figures) - 1) * len(steps) + number + 1, len(images) * len(steps))
        fused.append(_apart(right["embeddings"], *fetch(whole, image))[0])
    quantised = _quantised(model)
    deviations = [
        _deviation(step, _precision(step, quantised, kinds), figures)
        for step, figures in zip(steps, measured, strict=True)
    ]
    return Bisection(
        stage=stage,
        reference=source,
        images=len(images),
        departs=next((each for each in deviations if each.excess > 1.0), None),
        nodes=tuple(deviations),
        end=deviations[-1].output,
        fused=_finite(max(fused)),
    )


def _runs(
    model: onnx.ModelProto, names: list[str], images: Float32, provider: str
) -> Iterator[tuple[Float32, dict[str, Array]]]:
    """One image (1, 3, H, W) after the other, with the values of ``names`` and the input in ONNX Runtime.

    ``model`` gets these outputs, and loses its weights once ONNX Runtime has them.
    """
    made = {name for node in model.graph.node for name in node.output}
    if missing := [name for name in names if name not in made]:
        raise BundleError(
            f"the graph has no {missing[0]}, which the reference has: it is not one that rmatk wrote",
            "export again: rmatk export RUN -o BUNDLE",
        )
    own = {output.name for output in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in own)
    session = graph_session(model, provider)
    model.graph.ClearField("initializer")
    for image in images[:, None]:
        values = fetch(session, image, names)
        yield image, {"images": image, **dict(zip(names, values, strict=True))}


def _measure(step: Step, found: Mapping[str, Array], right: Mapping[str, Array]) -> tuple[float, ...]:
    """(own, inputs, output, -cosine) of one node for one image: the larger, the worse."""
    expected = step.apply(found)
    own = max(_apart(expected[name], found[name])[0] for name in step.node.output)
    inputs = max((_apart(right[name], found[name])[0] for name in step.inputs), default=0.0)
    apart = [_apart(right[name], found[name]) for name in step.node.output]
    return own, inputs, *np.max(apart, axis=0).tolist()


def _apart(expected: Array, found: Array) -> tuple[float, float]:
    """||found - expected|| / ||expected|| and -cosine; infinite where only ``found`` is not finite."""
    if not np.isfinite(expected).all():
        return 0.0, -1.0  # already lost before: not this node's doing
    if expected.shape != found.shape or not np.isfinite(found).all():
        return math.inf, math.inf
    a, b = expected.ravel(), double(found).ravel()
    length, other = float(np.linalg.norm(a)), float(np.linalg.norm(b))
    tiny = np.finfo(np.float32).tiny
    return float(np.linalg.norm(b - a)) / max(length, tiny), -float(a @ b) / max(length * other, tiny)


def _deviation(step: Step, precision: Precision, figures: list[tuple[float, ...]]) -> NodeDeviation:
    own, inputs, output, turned = map(_finite, np.max(figures, axis=0).tolist())
    return NodeDeviation(
        node=step.node.name,
        op=" + ".join(node.op_type for node in step.nodes),
        place=_place(step.node.name),
        precision=precision,
        own=own,
        inputs=inputs,
        output=output,
        cosine=None if turned is None else -turned,
    )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _quantised(model: onnx.ModelProto) -> set[str]:
    """Names of the nodes that read a dequantised value."""
    integers = {node.output[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    return {node.name for node in model.graph.node if integers.intersection(node.input)}


def _precision(step: Step, quantised: Collection[str], kinds: Mapping[str, np.dtype[Any]]) -> Precision:
    """The arithmetic that a node works in, as the graph under suspicion has it."""
    if any(node.name in quantised for node in step.nodes):
        return "int8"
    halves = any(kinds[name] == np.float16 for name in (*step.inputs, *step.node.output))
    return "fp16" if halves else "fp32"


def _place(name: str) -> str:
    """``blocks.3.mlp_in.matmul`` -> ``block 3, mlp_in``; ``patch.flat`` -> ``patch``."""
    parts = name.split(".")
    return f"block {parts[1]}, {parts[2]}" if parts[0] == "blocks" else parts[0]
