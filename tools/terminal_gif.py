"""Make docs/terminal.gif: the terminal of ``rmatk infer`` on the demo's video, the video's frame beside it.

    rmatk demo -o rmatk-demo && python tools/terminal_gif.py rmatk-demo docs/terminal.gif

Needs tmux, whose screens are captured with their colours, and a monospaced font with line-drawing characters.
"""

from __future__ import annotations

import argparse
import re
import shlex
import subprocess
import time
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from rich.color import ColorTriplet
from rich.console import Console
from rich.style import Style
from rich.terminal_theme import MONOKAI as THEME
from rich.text import Text

from rmatk_runtime.sources import open_source

COLUMNS, ROWS = 74, 8
PICTURE = (192, 144)
MARGIN = 10
FONT_SIZE = 14
COLOURS = 64
BACKGROUND = (22, 24, 30)
TMUX = ("tmux", "-L", "rmatk-gif", "-f", "/dev/null")
DONE = re.compile(r"(\d+) of \d+ frames")


def screens(command: list[str], folder: Path, interval: float) -> list[str]:
    """What the terminal shows while ``command`` runs in ``folder``: each screen, with escape sequences."""
    shown = f"printf '\\033[1m$ {shlex.join(command)}\\033[0m\\n'; exec {shlex.join(command)}"
    size = ("-x", str(COLUMNS), "-y", str(ROWS))
    subprocess.run(
        [*TMUX, "new-session", "-d", "-s", "gif", "-c", str(folder), *size, f"sleep 1; {shown}"], check=True
    )
    found: list[str] = []
    while True:
        done = subprocess.run(
            [*TMUX, "capture-pane", "-e", "-p", "-t", "gif"], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:  # the command has ended, and the session with it
            return found
        if DONE.search(done.stdout) and (not found or done.stdout != found[-1]):
            found.append(done.stdout)
        time.sleep(interval)


def draw(screen: str, font: ImageFont.FreeTypeFont, picture: Image.Image) -> Image.Image:
    """One image of the terminal, ``picture`` at its right."""
    width, height = round(font.getlength("x")), FONT_SIZE + 5
    size = (3 * MARGIN + COLUMNS * width + PICTURE[0], 2 * MARGIN + max(ROWS * height, PICTURE[1]))
    image = Image.new("RGB", size, BACKGROUND)
    pen = ImageDraw.Draw(image)
    for row, line in enumerate(screen.splitlines()[:ROWS]):
        column = 0
        for segment in Text.from_ansi(line).render(Console(color_system="truecolor")):
            for character in segment.text.rstrip("\n"):
                where = (MARGIN + column * width, MARGIN + row * height)
                pen.text(where, character, font=font, fill=colour(segment.style))
                column += 1
    image.paste(picture.resize(PICTURE), (size[0] - MARGIN - PICTURE[0], (size[1] - PICTURE[1]) // 2))
    return image


def colour(style: Style | None) -> ColorTriplet:
    """The colour that a style's characters are drawn in."""
    if style is None or style.color is None or style.color.is_default:
        return ColorTriplet(125, 130, 140) if style is not None and style.dim else ColorTriplet(225, 228, 232)
    return style.color.get_truecolor(THEME)


def main() -> None:
    """Run, capture, draw, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("demo", type=Path, help="the folder of rmatk demo")
    parser.add_argument("output", type=Path)
    parser.add_argument("--font", default="DejaVuSansMono.ttf")
    parser.add_argument("--images", type=int, default=30)
    args = parser.parse_args()
    video = args.demo / "video" / "conveyor.mp4"
    command = ["rmatk", "infer", "bundle", str(video.relative_to(args.demo)), "--smooth", "0.3"]
    found = screens(command, args.demo, 0.05)
    found = [found[n * (len(found) - 1) // (args.images - 1)] for n in range(args.images)]
    with open_source(str(video)) as source:
        frames = [Image.fromarray(frame.image) for frame in source]
        rate = source.info.rate or 15.0
    font = ImageFont.truetype(args.font, FONT_SIZE)
    counts = [int(DONE.search(screen)[1]) for screen in found]  # type: ignore[index]
    images = [draw(screen, font, frames[count - 1]) for screen, count in zip(found, counts, strict=True)]
    palette = images[len(images) // 2].quantize(COLOURS, Image.Quantize.MAXCOVERAGE)
    images = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]
    pace = 1000 * (counts[-1] - counts[0]) / rate / len(images)
    images[0].save(args.output, save_all=True, append_images=images[1:], duration=round(pace), loop=0)
    print(f"{args.output}: {len(images)} images, {args.output.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
