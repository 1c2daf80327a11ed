"""Draws predictions onto frames: a panel with a bar for each of the top labels."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from rmatk_runtime.arrays import UInt8
from rmatk_runtime.frames import Prediction
from rmatk_runtime.printable import printable
from rmatk_runtime.sinks.lettering import lettering

MIN_WIDTH = 256  # narrower pictures are enlarged, or no label could be read

_PANEL = (16, 18, 24, 205)
_TRACK = (58, 63, 74, 215)
_BEST = (46, 160, 103, 255)
_OTHER = (92, 118, 152, 255)
_UNSURE = (122, 122, 122, 255)
_TEXT = (255, 255, 255, 255)


def annotate(image: UInt8, prediction: Prediction) -> UInt8:
    """Draw the top labels with bars into the lower left corner.

    Args:
        image: (H, W, 3) uint8 RGB; left as it is.
        prediction: the frame's result; grey bars mean that it was rejected.

    Returns:
        (H', W', 3) uint8 RGB; as ``image``, or a whole multiple of it where that is narrower than 256 pixels.
    """
    picture = Image.fromarray(image)
    if (times := -(-MIN_WIDTH // picture.width)) > 1:
        picture = picture.resize((picture.width * times, picture.height * times), Image.Resampling.NEAREST)
    row = max(18, picture.height // 18)
    panel = _draw_panel(prediction, row, min(picture.width, 16 * row))
    picture.paste(panel.convert("RGB"), (0, max(0, picture.height - panel.height)), panel.getchannel("A"))
    return np.asarray(picture)


def _draw_panel(prediction: Prediction, row: int, width: int) -> Image.Image:
    """(len(top) rows, ``width``) RGBA."""
    pad = row // 4
    panel = Image.new("RGBA", (width, row * len(prediction.top) + 2 * pad), _PANEL)
    draw = ImageDraw.Draw(panel)
    size = row * 2 // 3
    figures = lettering("0123456789%", size)[1]
    for number, score in enumerate(prediction.top):
        top = pad + number * row
        colour = _UNSURE if prediction.rejected else _BEST if number == 0 else _OTHER
        inner = width - 2 * pad
        box = (pad, top + 1, pad + inner, top + row - 2)
        draw.rectangle(box, fill=_TRACK)
        draw.rectangle((*box[:2], pad + round(inner * score.probability), box[3]), fill=colour)
        percent = f"{score.probability:.0%}"
        middle = top + row // 2
        draw.text((width - 2 * pad, middle), percent, fill=_TEXT, font=figures, anchor="rm")
        room = inner - 3 * pad - draw.textlength(percent, font=figures)
        label, font = lettering(" ".join(printable(score.label).split()), size)
        draw.text((2 * pad, middle), _fit(label, room, font), fill=_TEXT, font=font, anchor="lm")
    return panel


def _fit(text: str, room: float, font: ImageFont.FreeTypeFont) -> str:
    """``text`` shortened with an ellipsis to ``room`` pixels."""
    if font.getlength(text) <= room:
        return text
    while text and font.getlength(text + "…") > room:
        text = text[:-1]
    return text + "…"
