"""Which kinds of picture are read, recognised by their content whatever the file's name says.

The list is closed: Pillow opens some formats by starting another program, whatever the ending of the file.
"""

from __future__ import annotations

HEAD = 64
"""Bytes from the start of a file that :func:`kind_of` looks at."""

_STARTS = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"BM": "BMP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
    **{b"P%d%c" % (number, space): "PPM" for number in range(1, 7) for space in b" \t\r\n#"},
}
# Brands of the ISO base media format (ISO/IEC 23008-12); the first one found decides
_BRANDS = {
    **dict.fromkeys((b"avif", b"avis"), "AVIF"),
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"), "HEIC"),
}
READ = frozenset((*_STARTS.values(), *_BRANDS.values(), "WEBP"))
"""The kinds that are read; each but HEIC is the name of Pillow's format."""

_REFUSED = {
    b"%!PS": "EPS or PostScript",
    b"\xc5\xd0\xd3\xc6": "EPS",
    b"%PDF": "PDF",
    b"8BPS": "PSD",
    b"\0\0\0\x0cJXL ": "JPEG XL",
    b"\xff\x0a": "JPEG XL",
    b"\0\0\0\x0cjP  ": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"\xd7\xcd\xc6\x9a": "WMF",
    b"\0\0\1\0": "ICO",
    b"<svg": "SVG",
    b"SIMPLE  =": "FITS",
    b"\x89HDF": "HDF5",
    b"GRIB": "GRIB",
    b"BUFR": "BUFR",
}


def kind_of(head: bytes) -> str | None:
    """The kind of picture that begins with ``head``, one of :data:`READ`; None for anything else."""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[4:8] == b"ftyp":
        brands = (head[start : start + 4] for start in (8, *range(16, min(_box(head), len(head)), 4)))
        return next((kind for brand in brands if (kind := _BRANDS.get(brand))), None)
    return next((kind for start, kind in _STARTS.items() if head.startswith(start)), None)


def describe(head: bytes) -> str:
    """What a file that is not read seems to be, for an error."""
    name = next((name for start, name in _REFUSED.items() if head.startswith(start)), None)
    if head[4:8] == b"ftyp":
        name = "a video, or a picture of an unknown brand"
    return f"holds {name}, which is not read" if name else "is not an image that can be read"


def _box(head: bytes) -> int:
    return int.from_bytes(head[:4], "big")
