"""What the fold is worth: plain CLIP, folded adapters and unfolded adapters on ONNX Runtime, side by side.

    python benchmarks/fold_latency.py --model ViT-B-16-quickgelu --json

Random weights and random adapters (latency does not depend on their values). The three sessions take turns
within each round, so that noise of the machine hits all alike; the figures are medians and their ratios.
The last line of standard output is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import platform
from collections import Counter
from functools import partial

import numpy as np
import onnx
import onnxruntime
from turns import timed

from rmatk.backbones.torchvision_ops import import_torchvision
from rmatk.config import default_blocks
from rmatk_export.fold import attach, fold
from rmatk_export.graph.encoder import image_graph
from rmatk_export.graph.writer import Writer
from rmatk_export.readers.open_clip import read_image_tower
from rmatk_export.weights import Adapter, ImageStem, Linear, Tower


def random_adapters(tower: Tower[ImageStem], rank: int) -> dict[int, Adapter]:
    """Adapters beside the upper two thirds of the blocks."""
    rng = np.random.default_rng(0)
    width = tower.blocks[0].qkv.weight.shape[0]

    def linear(inputs: int, outputs: int) -> Linear:
        weight = rng.normal(0, 0.02, (inputs, outputs)).astype(np.float32)
        return Linear(weight, np.zeros(outputs, np.float32))

    first = len(tower.blocks) - default_blocks(len(tower.blocks))
    return {
        i: Adapter(linear(width, rank), linear(rank, width), 0.1) for i in range(first, len(tower.blocks))
    }


def unfolded_graph(plain: onnx.ModelProto, adapters: dict[int, Adapter]) -> onnx.ModelProto:
    """The plain graph with each adapter as nodes of its own beside its block."""
    model = onnx.ModelProto()
    model.CopyFrom(plain)
    last = max(adapters)
    nodes = list(model.graph.node)
    for index, adapter in adapters.items():
        name = f"blocks.{index}"
        w = Writer()
        u = f"{name}.norm_1"
        if index == last and any(node.name == f"{name}.x.first" for node in nodes):
            u = w.op("Gather", f"{name}.u.first", u, w.constant(0), axis=1)
        hidden = w.gelu(f"{name}.adapter.act", w.linear(f"{name}.adapter.down", u, adapter.down))
        up = Linear(
            adapter.up.weight * np.float32(adapter.scale), adapter.up.bias * np.float32(adapter.scale)
        )
        branch = w.linear(f"{name}.adapter.up", hidden, up)
        w.op("Add", f"{name}.adapted", f"{name}.out", branch)
        place = next(i for i, node in enumerate(nodes) if node.name == f"{name}.out") + 1
        for node in nodes[place:]:
            for number, source in enumerate(node.input):
                if source == f"{name}.out":
                    node.input[number] = f"{name}.adapted"
        nodes[place:place] = w.nodes
        known = {weight.name for weight in model.graph.initializer}
        model.graph.initializer.extend(tensor for key, tensor in w.weights.items() if key not in known)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.checker.check_model(model)
    return model


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="ViT-B-16-quickgelu")
    parser.add_argument("--rank", type=int, default=32)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--json", action="store_true", help="print nothing but the JSON line")
    args = parser.parse_args()
    import_torchvision()
    import open_clip

    tower = read_image_tower(open_clip.create_model(args.model, pretrained=None).eval())
    adapters = random_adapters(tower, args.rank)
    plain = image_graph(fold(tower))
    graphs = {
        "plain": plain,
        "folded": image_graph(fold(attach(tower, adapters))),
        "unfolded": unfolded_graph(plain, adapters),
    }
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = args.threads
    sessions = {
        name: onnxruntime.InferenceSession(
            graph.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        for name, graph in graphs.items()
    }
    height, width = tower.stem.image_size
    images = np.random.default_rng(1).normal(size=(args.batch, 3, height, width)).astype(np.float32)
    outputs = {name: session.run(None, {"images": images})[0] for name, session in sessions.items()}
    calls = {name: partial(session.run, None, {"images": images}) for name, session in sessions.items()}
    median = timed(calls, args.rounds, quiet=args.json)
    print(
        json.dumps(
            {
                "model": args.model,
                "batch": args.batch,
                "threads": args.threads,
                "rounds": args.rounds,
                "milliseconds": {name: round(1e3 * value, 2) for name, value in median.items()},
                "folded_over_plain": round(median["folded"] / median["plain"], 4),
                "unfolded_over_plain": round(median["unfolded"] / median["plain"], 4),
                "matmuls": {
                    name: Counter(node.op_type for node in graph.graph.node)["MatMul"]
                    for name, graph in graphs.items()
                },
                "max_difference_folded_unfolded": float(
                    np.abs(outputs["folded"] - outputs["unfolded"]).max()
                ),
                "onnxruntime": onnxruntime.__version__,
                "machine": platform.processor() or platform.machine(),
            }
        )
    )


if __name__ == "__main__":
    main()
