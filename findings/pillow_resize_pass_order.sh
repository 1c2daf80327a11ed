#!/usr/bin/env bash
# The same resize of the same pixels differs between Pillow 12.3.0 and 13.0.0 for tall pictures.
#
# Guessed: Image.resize((224, 560), BICUBIC) is deterministic integer arithmetic, so that two releases agree and a
# digest of the result, recorded on one machine, holds on another.
# Seen: 13.0.0 does the vertical pass first where the height loses more than twice as many rows as the width loses
# columns; 12.3.0 always does the horizontal pass first. Each pass rounds to 8 bits, so the bytes differ for 480x1200
# and agree for 640x480. Two explicit one-axis resizes are the same in both releases.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat > "$work/digest.py" <<'PYTHON'
import hashlib
import json

import numpy as np
import PIL
from PIL import Image

found = {"version": PIL.__version__}
draw = np.random.default_rng(1)
for name, (width, height), size in (("wide", (640, 480), (299, 224)), ("tall", (480, 1200), (224, 560))):
    picture = Image.fromarray(draw.integers(0, 256, (height, width, 3), dtype=np.uint8))
    whole = picture.resize(size, Image.Resampling.BICUBIC)
    across = picture.resize((size[0], height), Image.Resampling.BICUBIC)
    passes = across.resize(size, Image.Resampling.BICUBIC)
    for way, result in (("one call", whole), ("two passes", passes)):
        found[f"{name}, {way}"] = hashlib.sha256(result.tobytes()).hexdigest()[:12]
print(json.dumps(found))
PYTHON
for version in 12.3.0 13.0.0; do
    python3 -m venv "$work/$version"
    "$work/$version/bin/pip" install -q --disable-pip-version-check "pillow==$version" 'numpy==2.4.6'
    "$work/$version/bin/python" "$work/digest.py" > "$work/$version.json"
    cat "$work/$version.json"
done
python3 - "$work/12.3.0.json" "$work/13.0.0.json" <<'PYTHON'
import json
import sys
from pathlib import Path

old, new = (json.loads(Path(path).read_text()) for path in sys.argv[1:])
same = {key for key in old if old[key] == new[key]}
expected = {"wide, one call", "wide, two passes", "tall, two passes"}
print("the same in both:", ", ".join(sorted(same)))
print("as described" if same == expected else "CHANGED")
sys.exit(same != expected)
PYTHON
