#!/usr/bin/env bash
# ONNX Runtime's default worker threads leave the CPU mask that taskset or systemd's CPUAffinity set.
#
# Guessed: threads inherit the affinity of the thread that creates them, so a process under `taskset -c 0` stays on
# CPU 0, and the default number of threads follows the mask.
# Seen with onnxruntime 1.32.0 on Linux: with intra_op_num_threads left at 0 the pool is sized by the machine's
# cores and its workers are pinned to cores outside the mask. With an explicit number of threads they inherit it.
set -eu
[ "$(nproc --all)" -ge 2 ] || { echo "needs two CPUs: not run"; exit 0; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check 'onnxruntime==1.32.0' 'onnx==1.23.2' 'numpy==2.4.6'
cat > "$work/look.py" <<'PYTHON'
import os
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper

weight = helper.make_tensor("w", TensorProto.FLOAT, [256, 256], np.ones(65536, np.float32).tobytes(), raw=True)
node = helper.make_node("MatMul", ["x", "w"], ["y"])
x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", 256]) for n in "xy")
graph = helper.make_graph([node], "g", [x], [y], [weight])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
onnx.checker.check_model(model)
mask = os.sched_getaffinity(0)
outside = {}
for threads in (0, 2):
    before = {int(p.name) for p in Path("/proc/self/task").iterdir()}
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    session.run(None, {"x": np.ones((64, 256), np.float32)})
    new = {int(p.name) for p in Path("/proc/self/task").iterdir()} - before
    masks = [sorted(os.sched_getaffinity(thread)) for thread in new]
    outside[threads] = sum(not set(m) <= mask for m in masks)
    print(f"mask {sorted(mask)}, intra_op_num_threads {threads}: {len(new)} workers on {masks}")
as_seen = outside[0] > 0 and outside[2] == 0
print(f"onnxruntime {ort.__version__}:", "as described" if as_seen else "CHANGED")
sys.exit(not as_seen)
PYTHON
taskset -c 0 "$work/venv/bin/python" "$work/look.py"
