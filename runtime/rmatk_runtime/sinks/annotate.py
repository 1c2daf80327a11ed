"""Draws predictions onto frames: a panel with a bar for each of the top labels."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from rmatk_runtime.arrays import UInt8
from rmatk_runtime.frames import Frame, Prediction, Region
from rmatk_runtime.printable import printable
from rmatk_runtime.sinks.lettering import lettering
from rmatk_runtime.sinks.whole import Looked

MIN_WIDTH = 256  # narrower pictures are enlarged, or no label could be read

_PANEL = (16, 18, 24, 205)
_TRACK = (58, 63, 74, 215)
_BEST = (46, 160, 103, 255)
_OTHER = (92, 118, 152, 255)
_UNSURE = (122, 122, 122, 255)
_TEXT = (255, 255, 255, 255)


def draw(looked: Looked) -> UInt8:
    """Draw what was seen: the top labels with bars in the lower left corner, or each region with its label.

    Args:
        looked: the picture, left as it is, and its results; grey means that one was rejected.

    Returns:
        (H', W', 3) uint8 RGB; as the picture, or a whole multiple of one narrower than 256 pixels.
    """
    picture = Image.fromarray(looked.image)
    times = -(-MIN_WIDTH // picture.width)
    if times > 1:
        picture = picture.resize((picture.width * times, picture.height * times), Image.Resampling.NEAREST)
    row = max(18, picture.height // 18)
    for region, prediction in looked.results:
        if region is not None:
            _draw_region(picture, region, prediction, row, times)
            continue
        panel = _draw_panel(prediction, row, min(picture.width, 16 * row))
        place = 0, max(0, picture.height - panel.height)
        picture.paste(panel.convert("RGB"), place, panel.getchannel("A"))
    if looked.frame.camera:
        _draw_tag(picture, looked.frame.camera, (0, 0), row, _PANEL)
    return np.asarray(picture)


def annotate(image: UInt8, prediction: Prediction) -> UInt8:
    """:func:`draw` with one result for all of a picture (H, W, 3) uint8 RGB."""
    return draw(Looked(Frame(image, 0, 0.0, ""), ((None, prediction),)))


def _draw_region(picture: Image.Image, region: Region, prediction: Prediction, row: int, times: int) -> None:
    """A frame around a region, and above its lower edge what it is called and shows."""
    colour = _UNSURE if prediction.rejected else _BEST
    left, top, width, height = (number * times for number in region.box)
    box = left, top, left + width - 1, top + height - 1
    ImageDraw.Draw(picture).rectangle(box, outline=colour, width=max(2, row // 8))
    label = "unsure" if prediction.label is None else prediction.label
    text = f"{region.name}: {label} {prediction.top[0].probability:.0%}"
    _draw_tag(picture, text, (left, max(0, top + height - row)), row, colour)


def _draw_tag(
    picture: Image.Image, text: str, place: tuple[int, int], row: int, colour: tuple[int, int, int, int]
) -> None:
    """One line of text on a ground, shortened to the picture's edge."""
    shown, font = lettering(" ".join(printable(text).split()), row * 2 // 3)
    pad = row // 4
    shown = _fit(shown, max(0, picture.width - place[0] - 2 * pad), font)
    draw = ImageDraw.Draw(picture)
    right = min(picture.width, place[0] + round(draw.textlength(shown, font=font)) + 2 * pad)
    draw.rectangle((*place, max(place[0], right - 1), place[1] + row - 1), fill=colour[:3])
    draw.text((place[0] + pad, place[1] + row // 2), shown, fill=_TEXT[:3], font=font, anchor="lm")


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
