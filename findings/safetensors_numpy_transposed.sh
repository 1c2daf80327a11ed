#!/usr/bin/env bash
# safetensors.numpy.save writes a transposed NumPy array with its elements in another order, without an error.
#
# Guessed: an array that is not C-contiguous is either written in logical order (as np.save does) or refused
# (as safetensors.torch.save does with a non-contiguous tensor).
# Seen with safetensors 0.8.0 and NumPy 2.4.6: the bytes of the buffer are written as they lie in memory under the
# logical shape, so that a (2, 3) view of a (3, 2) array comes back scrambled. A C-ordered copy is written correctly.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check 'safetensors==0.8.0' 'numpy==2.4.6'
"$work/venv/bin/python" - <<'PYTHON'
import sys

import numpy as np
import safetensors
from safetensors.numpy import load, save

print(f"safetensors {safetensors.__version__}, NumPy {np.__version__}")
view = np.arange(6, dtype=np.float32).reshape(3, 2).T
back = load(save({"weight": view}))["weight"]
copied = load(save({"weight": np.ascontiguousarray(view)}))["weight"]
print("written:", view.tolist())
print("read:   ", back.tolist())
print("read, of a C-ordered copy:", copied.tolist())
as_seen = back.shape == view.shape and not np.array_equal(back, view) and np.array_equal(copied, view)
print("as described" if as_seen else "CHANGED: a transposed array is no longer scrambled in silence")
sys.exit(not as_seen)
PYTHON
