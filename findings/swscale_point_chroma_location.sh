#!/usr/bin/env bash
# Guess: with the POINT scaler each chroma sample of 4:2:0 covers its 2x2 pixels, whatever the frame says of the
# place of chroma. Seen: where a decoder sets the chroma location to "left" (every H.264 stream), swscale with
# full_chroma_int takes the next sample for odd columns, so that colours shift by a pixel; a frame with the same
# samples and no location is converted as guessed.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q av==17.1.0 numpy==2.2.6
"$folder/venv/bin/python" - "$folder/clip.mp4" <<'PYTHON'
import sys

import av
import numpy as np

print("PyAV", av.__version__, "libswscale", av.library_versions["libswscale"])
picture = np.full((48, 64, 3), 40, np.uint8)
picture[:, :32] = (220, 20, 20)
with av.open(sys.argv[1], "w") as container:
    stream = container.add_stream("libx264", rate=10, options={"qp": "0"})
    stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
    container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
    container.mux(stream.encode())
with av.open(sys.argv[1]) as container:
    decoded = next(container.decode(video=0))
bare = av.VideoFrame(64, 48, "yuv420p")
for target, plane in zip(bare.planes, decoded.planes):
    rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
    into = np.frombuffer(target, np.uint8).reshape(-1, target.line_size)
    size = min(plane.line_size, target.line_size)
    into[: plane.height, :size] = rows[: plane.height, :size]
exact = 1 << 4 | 1 << 13 | 1 << 18 | 1 << 19  # point, full_chroma_int, accurate_rnd, bitexact
pixels = [frame.reformat(format="rgb24", interpolation=exact).to_ndarray()[24, 31].tolist() for frame in (decoded, bare)]
print("column 31, the last red one: from the decoder", pixels[0], "from the same samples alone", pixels[1])
assert pixels[0] != pixels[1], "the behaviour has changed"
PYTHON
