#!/usr/bin/env bash
# Guess: FFmpeg's most exact conversion (accurate_rnd, full_chroma_int, bitexact) clips YUV values beyond RGB to
# 0..255. Seen: where a channel reaches 512 the 32-bit sum wraps and the channel becomes 0: the brightest blue
# (Y = U = 255, limited range) loses its blue, while FFmpeg's default conversion clips it to 255.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q av==17.1.0 numpy==2.2.6
"$folder/venv/bin/python" - <<'PYTHON'
import av
import numpy as np

print("PyAV", av.__version__, "libswscale", av.library_versions["libswscale"])
frame = av.VideoFrame(64, 48, "yuv420p")
for plane, value in zip(frame.planes, (255, 255, 128)):
    plane.update(bytes([value]) * plane.buffer_size)
exact = 1 << 4 | 1 << 13 | 1 << 18 | 1 << 19  # point, full_chroma_int, accurate_rnd, bitexact
blue = {
    name: int(frame.reformat(format="rgb24", interpolation=flags).to_ndarray()[24, 32, 2])
    for name, flags in (("default", 2), ("exact flags", exact))
}
formula = min(255.0, (255 - 16) * 255 / 219 + 1.772 * (255 - 128) * 255 / 224)
print("blue of Y = U = 255: formula", formula, "seen", blue)
assert blue["default"] == 255 and blue["exact flags"] == 0, "the behaviour has changed"
PYTHON
