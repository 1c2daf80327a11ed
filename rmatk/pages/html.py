"""What the toolkit's HTML pages share: skeleton and style (``page.html``), tables, pictures inside the page,
and curves drawn as SVG."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from string import Template

import numpy as np
from PIL import Image

_PAGE = Path(__file__).with_name("page.html")
_MOST_POINTS = 400


def document(title: str, body: str) -> bytes:
    """A whole page around ``body``, which is HTML; it needs no other file and no network."""
    page = Template(_PAGE.read_text(encoding="utf-8")).substitute(title=escape(title), body=body)
    return page.encode("utf-8", "backslashreplace")


def rows(cells: Iterable[Iterable[str]]) -> str:
    """Rows of a table; every cell is escaped."""
    return "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in cells)


def percent(share: float) -> str:
    """A share in [0, 1] as ``93.4%``."""
    return f"{share:.1%}"


def figure(image: Image.Image, caption: str, right: bool | None) -> str:
    """A picture with its caption; ``right`` colours the frame green or red."""
    picture = image.copy()
    picture.thumbnail((240, 180))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=80)
    data = base64.b64encode(buffer.getvalue()).decode()
    kind = "" if right is None else (' class="right"' if right else ' class="wrong"')
    text = escape(caption)
    shown = f'<img alt="{text}" src="data:image/jpeg;base64,{data}">'
    return f"<figure{kind}>{shown}<figcaption>{text}</figcaption></figure>"


def curve(title: str, values: Sequence[float]) -> str:
    """One quantity over the steps as an SVG with its own scale; long runs are averaged into 400 points."""
    points = np.array([part.mean() for part in np.array_split(values, min(len(values), _MOST_POINTS))])
    low, high = float(points.min()), float(points.max())
    x = np.linspace(8, 292, len(points))
    y = 92 - 64 * (points - low) / ((high - low) or 1.0)
    line = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
    name = escape(title)
    return (
        f'<svg viewBox="0 0 300 116" role="img" aria-label="{name}"><text x="8" y="14" class="title">{name}'
        f'</text><text x="292" y="14" text-anchor="end">last {values[-1]:.4g}</text>'
        f'<path d="M8 92H292" class="axis"/><polyline points="{line}"/>'
        f'<text x="8" y="108">from {low:.4g} to {high:.4g}</text>'
        f'<text x="292" y="108" text-anchor="end">{len(values)} steps</text></svg>'
    )


def confusion(names: Sequence[str], counts: np.ndarray) -> str:
    """A confusion matrix (C, C), rows the true class, as an SVG: shade is the share of the row."""
    cell = 24 if len(names) <= 25 else 12 if len(names) <= 60 else 6
    margin = 8 + 6 * min(24, max(map(len, names))) if cell > 6 else 8
    side = margin + cell * len(names)
    parts = [f'<svg viewBox="0 0 {side + 40} {side + 8}" style="max-width:{side + 40}px" class="confusion">']
    for row, name in enumerate(names):
        y = margin + cell * row
        if cell > 6:
            text, middle = escape(name[:24]), y + cell / 2
            parts.append(f'<text x="{margin - 6}" y="{middle + 4}" text-anchor="end">{text}</text>')
            parts.append(f'<text transform="translate({middle + 4} {margin - 6}) rotate(-60)">{text}</text>')
        for column in np.flatnonzero(counts[row]).tolist():
            count, kind = int(counts[row, column]), "right" if column == row else "wrong"
            x, share = margin + cell * column, counts[row, column] / counts[row].sum()
            hint = escape(f"{name}: {count} taken for {names[column]}")
            parts.append(
                f'<rect x="{x}" y="{y}" width="{cell - 1}" height="{cell - 1}" class="{kind}" '
                f'fill-opacity="{0.15 + 0.85 * share:.2f}"><title>{hint}</title></rect>'
            )
            if cell > 12:
                middle = y + cell / 2 + 4
                parts.append(
                    f'<text x="{x + cell / 2 - 0.5}" y="{middle}" text-anchor="middle">{count}</text>'
                )
    return "".join([*parts, "</svg>"])
