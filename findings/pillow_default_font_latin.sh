#!/usr/bin/env bash
# Guessed: ImageFont.load_default(size) is a TrueType font (Aileron), so it draws Western European letters.
# Seen: it is cut down to ASCII; every letter from U+00C0 to U+00FF is the same box, so labels such as "ü" and "é" look alike.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check 'pillow==12.3.0'
"$folder/venv/bin/python" - <<'PY'
import sys

import PIL
from PIL import ImageFont

font = ImageFont.load_default(20)
letters = [chr(code) for code in range(0xC0, 0x100)]
drawn = {bytes(font.getmask(letter)) for letter in letters}
ascii_letters = {bytes(font.getmask(chr(code))) for code in range(0x41, 0x5B)}
print(f"Python {sys.version.split()[0]}, Pillow {PIL.__version__}, font {font.getname()}")
print(f"different drawings of the 64 characters U+00C0 to U+00FF: {len(drawn)}; of A to Z: {len(ascii_letters)}")
sys.exit(0 if len(drawn) == 1 and len(ascii_letters) == 26 else 1)
PY
