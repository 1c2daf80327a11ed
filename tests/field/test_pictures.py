"""Pictures as the world has them: each is read, or named and counted."""

from __future__ import annotations

import ast
import io
import json
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rmatk_runtime.errors import DataError, SourceError
from rmatk_runtime.pictures.decode import load_image
from rmatk_runtime.pictures.jpeg_stream import JpegSplitter, index_sizes
from rmatk_runtime.pictures.metadata import Exif, orientation
from rmatk_runtime.sources import open_source

Command = Callable[..., tuple[int, str, str]]
ROOT = Path(__file__).parents[2]


def photo(size: tuple[int, int] = (64, 48), seed: int = 0) -> Image.Image:
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    return small.resize(size, Image.Resampling.BICUBIC)


def jpeg(image: Image.Image | None = None, **settings: object) -> bytes:
    data = io.BytesIO()
    (image or photo()).save(data, "JPEG", quality=90, **settings)
    return data.getvalue()


def segment(code: int, payload: bytes) -> bytes:
    return bytes([0xFF, code]) + struct.pack(">H", len(payload) + 2) + payload


def with_segment(picture: bytes, code: int, payload: bytes) -> bytes:
    return picture[:2] + segment(code, payload) + picture[2:]


def exif(*entries: tuple[int, int, int, bytes], order: str = "<", tail: bytes = b"") -> bytes:
    """An EXIF block with these (tag, type, count, four bytes of value)."""
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    body = b"".join(struct.pack(order + "HHI", *entry[:3]) + entry[3] for entry in entries)
    return (
        b"Exif\0\0"
        + head
        + struct.pack(order + "H", len(entries))
        + body
        + struct.pack(order + "I", 0)
        + tail
    )


TURNED = (0x0112, 3, 1, struct.pack("<HH", 6, 0))
BROKEN_EXIF = {
    "cut in the header": exif(TURNED)[:9],
    "cut in the count": exif(TURNED)[:15],
    "cut in an entry": exif(TURNED)[:20],
    "empty": b"Exif\0\0",
    "orientation as text": exif((0x0112, 2, 2, b"6\0\0\0")),
    "orientation as rational beyond the end": exif((0x0112, 5, 1, struct.pack("<I", 9999))),
    "orientation without a value": exif((0x0112, 3, 0, bytes(4))),
    "a number of an unknown type": exif((0x829A, 99, 1, bytes(4))),
    "resolution of a type that cannot be one": exif((0x011A, 7, 4, b"abcd"), (0x0128, 2, 4, b"abc\0")),
    "resolution by zero": exif((0x011A, 5, 1, struct.pack("<I", 38)), tail=bytes(8)),
    "a directory that points at itself": exif((0x8769, 4, 1, struct.pack("<I", 8))),
    "GPS beyond the end": exif((0x8825, 4, 1, struct.pack("<I", 0xFFFFFFF0))),
    "floats": exif((0x0112, 12, 1, struct.pack("<I", 8)), (0x8769, 11, 1, bytes(4))),
    "a count of billions": exif((0x010F, 2, 0xFFFFFFFF, bytes(4))),
    "noise": b"Exif\0\0" + np.random.default_rng(1).bytes(300),
}


@pytest.mark.parametrize("name", BROKEN_EXIF)
@pytest.mark.parametrize("kind", ["jpg", "png", "webp", "tif", "avif"])
def test_broken_metadata(name: str, kind: str, tmp_path: Path) -> None:
    block, path = BROKEN_EXIF[name], tmp_path / f"photo.{kind}"
    if kind == "jpg":
        path.write_bytes(with_segment(jpeg(), 0xE1, block))
    elif kind in ("png", "webp"):
        photo().save(path, exif=block.removeprefix(b"Exif\0\0") or b"\0", lossless=True)
    elif kind == "avif":
        avif = io.BytesIO()
        photo().save(avif, "AVIF", exif=exif(TURNED))
        old, new = exif(TURNED).removeprefix(b"Exif\0\0"), block.removeprefix(b"Exif\0\0")
        path.write_bytes(avif.getvalue().replace(old, (new + bytes(len(old)))[: len(old)]))
    else:
        photo().save(path, tiffinfo={0x829A: 7})
        data = path.read_bytes()
        at = data.index(struct.pack("<HH", 0x829A, 3))
        odd = next(
            (block[i : i + 12] for i in (16,) if len(block) >= 28),
            struct.pack("<HHI", 0x829A, 99, 1) + bytes(4),
        )
        if odd[:2] != struct.pack("<H", 0x0112):
            odd = struct.pack("<H", 0x829A) + odd[2:]
            path.write_bytes(data[:at] + odd + data[at + 12 :])
    found = load_image(path)
    assert found.size in ((64, 48), (48, 64))


def test_metadata_cannot_cost_a_picture_whatever_its_bytes_are(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    whole, png, path = exif(TURNED, (0x8769, 4, 1, struct.pack("<I", 26))), io.BytesIO(), tmp_path / "photo"
    photo().save(png, "PNG")
    for _ in range(80):
        block = bytearray(whole + rng.bytes(40))
        for place in rng.integers(6, len(block), 6):
            block[place] = rng.integers(256)
        for code in (0xE1, 0xE2, 0xED):
            path.write_bytes(with_segment(jpeg(), code, bytes(block)))
            assert load_image(path).size in ((64, 48), (48, 64))
        for name in (b"eXIf", b"iTXt", b"zTXt", b"iCCP", b"pHYs", b"acTL"):
            check = struct.pack(">I", zlib.crc32(name + block) ^ int(rng.integers(2)))
            chunk = struct.pack(">I", len(block)) + name + bytes(block) + check
            path.write_bytes(png.getvalue()[:33] + chunk + png.getvalue()[33:])
            assert load_image(path).size in ((64, 48), (48, 64))


@pytest.mark.parametrize("turned", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_every_orientation_of_every_kind(turned: int, kind: str, tmp_path: Path) -> None:
    upright = np.zeros((32, 64, 3), np.uint8)
    upright[:16, :16] = 255  # the corner of row 0 and column 0
    block = Image.Exif()
    block[0x0112] = turned
    settings = {"lossless": True} if kind == "WEBP" else {"quality": 95} if kind in ("JPEG", "AVIF") else {}
    Image.fromarray(upright).save(tmp_path / "photo", kind, exif=block, **settings)
    corner = {1: "tl", 2: "tr", 3: "br", 4: "bl", 5: "tl", 6: "tr", 7: "br", 8: "bl"}[turned]
    shown = np.asarray(load_image(tmp_path / "photo"))
    assert shown.shape == ((32, 64, 3) if turned < 5 else (64, 32, 3))
    rows, columns = slice(0, 8) if corner[0] == "t" else slice(-8, None), slice(0, 8)
    columns = columns if corner[1] == "l" else slice(-8, None)
    assert shown[rows, columns].min() > 200 and shown.mean() < 60


def test_orientation_survives_damage_behind_it() -> None:
    assert Exif(exif(TURNED, (0x8825, 77, 1, bytes(4)))[:-3]).orientation == 6
    assert orientation(b"", b'<rdf tiff:Orientation="8"/>') == 8
    assert orientation(exif(TURNED), b'<rdf tiff:Orientation="8"/>') == 6


def thin_png(width: int, height: int) -> bytes:
    rows = b"".join(b"\0" + bytes([row % 256]) * width for row in range(height))
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows, 9)),
    ]
    parts = [
        struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d))
        for n, d in [*chunks, (b"IEND", b"")]
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize(
    ("size", "mode", "way"),
    [
        ((1, 60_000), "shortest", "file"),
        ((60_000, 1), "shortest", "bytes"),
        ((1, 3_000_000), "shortest", "bytes"),
        ((2_000_000, 3), "squash", "file"),
        ((1, 60_000), "longest", "file"),
    ],
)
def test_thin(size: tuple[int, int], mode: str, way: str, tmp_path: Path) -> None:
    path = tmp_path / "thin.png"
    path.write_bytes(thin_png(*size))
    code = """
import re, sys, time
from pathlib import Path
from rmatk_runtime.pictures.decode import decode_image, load_image
from rmatk_runtime.pictures.preprocess import PreprocessSpec, preprocess
_, way, mode, path = sys.argv
spec = PreprocessSpec(224, 224, (0.5,) * 3, (0.5,) * 3, resize_mode=mode)
start = time.process_time()
picture = load_image(Path(path)) if way == "file" else decode_image(Path(path).read_bytes(), "the picture")
tensor = preprocess(picture, spec)
assert tensor.shape == (3, 224, 224)
peak = re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]
print(time.process_time() - start, int(peak) // 1024)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, way, mode, str(path)], capture_output=True, text=True, check=True
    )
    seconds, megabytes = done.stdout.split()
    assert float(seconds) < 5 and int(megabytes) <= 200, done.stdout  # of processor time: 0.1 where idle


def test_what_is_kept_of_a_long_picture_is_what_the_whole_one_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    from rmatk_runtime.pictures import preprocess as module

    spec = module.PreprocessSpec(32, 32, (0.5,) * 3, (0.5,) * 3)
    for size in ((12, 1201), (1301, 13), (5, 505), (70, 7001)):
        kept = module.resize(photo(size), spec).astype(int)
        with monkeypatch.context() as patch:
            patch.setattr(module, "FURTHEST", 10_000)
            whole = module.resize(photo(size), spec).astype(int)
        assert np.abs(kept - whole).max() <= 1


def grey16(low: int, high: int, size: tuple[int, int] = (40, 30)) -> Image.Image:
    values = np.linspace(low, high, size[0] * size[1]).reshape(size[::-1]).astype(np.uint16)
    return Image.fromarray(values)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_thermal(kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    from rmatk_runtime.pictures.decode import Decoding

    path = tmp_path / "thermal"
    grey16(29_000, 30_200).save(path, kind)
    plain = np.asarray(load_image(path))
    assert len(np.unique(plain)) < 8 and "16-bit greyscale" in caplog.text and "--stretch" in caplog.text
    caplog.clear()
    stretched = np.asarray(load_image(path, Decoding(stretch="auto")))
    fixed = np.asarray(load_image(path, Decoding(stretch=(29_000, 30_200))))
    assert len(np.unique(stretched)) > 200 and len(np.unique(fixed)) > 200 and not caplog.text
    assert stretched[0, 0, 0] == 0 == fixed[0, 0, 0] and stretched[-1, -1, 0] == 255 == fixed[-1, -1, 0]


def test_dark_16_bit_greyscale_is_no_8_bit_greyscale(tmp_path: Path) -> None:
    grey16(0, 255).save(tmp_path / "dark.png")  # mode "I" or "I;16", by Pillow's version
    assert np.asarray(load_image(tmp_path / "dark.png")).max() == 1


def test_phone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    heif = pillow_heif.from_pillow(photo((320, 240)))
    block = Image.Exif()
    block[0x0112] = 6
    for name in ("photo.heic", "photo.jpg", "photo"):
        heif.save(tmp_path / name, quality=90, exif=block.tobytes())
    shown = np.asarray(load_image(tmp_path / "photo.jpg")).astype(int)
    expected = np.asarray(photo((320, 240)).transpose(Image.Transpose.ROTATE_270))
    assert shown.shape == expected.shape and np.abs(shown - expected).mean() < 4
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    for name in ("photo.heic", "photo.jpg"):
        with pytest.raises(DataError, match=rf"{name} is a HEIC picture.*pip install 'rmatk\[heic\]'"):
            load_image(tmp_path / name)
    with open_source(str(tmp_path / "photo.heic")) as source, pytest.raises(SourceError, match="heic"):
        list(source)
    (tmp_path / "other.jpg").write_bytes(jpeg())
    with open_source(str(tmp_path)) as source:
        frames = list(source)
    assert len(frames) == 1 and source.damaged == 2  # the file without an ending is no picture by its name


def test_avif_named_heic(tmp_path: Path) -> None:
    photo((320, 240)).save(tmp_path / "photo.heic", "AVIF", quality=90)
    with open_source(str(tmp_path / "photo.heic")) as source:
        (frame,) = source
    assert frame.image.shape == (240, 320, 3)


def multi_picture(first: bytes, *others: bytes, stale: bool = False) -> bytes:
    """Several pictures in a file with an index (CIPA DC-007)."""
    entries = len(others) + 1
    payload = b"MPF\0II*\0" + struct.pack("<IH", 8, 3)
    payload += struct.pack("<HHI4s", 0xB000, 7, 4, b"0100") + struct.pack("<HHII", 0xB001, 4, 1, entries)
    payload += struct.pack("<HHIII", 0xB002, 7, 16 * entries, 50, 0)
    total = len(first) + 4 + len(payload) + 16 * entries
    table, place = struct.pack("<IIIHH", 0x030000, total, 0, 0, 0), total
    for other in others:
        table += struct.pack("<IIIHH", 0, len(other), place - 10, 0, 0)
        place += len(other)
    picture = with_segment(first, 0xE2, payload + table)
    return picture if stale else picture + b"".join(others)


def split(stream: bytes, size: int = 4096) -> list[bytes | None]:
    splitter, found = JpegSplitter(), []
    for start in range(0, len(stream), size):
        found += splitter.feed(stream[start : start + size])
    return [*found, *splitter.end()]


A, B, C = (jpeg(photo(seed=seed)) for seed in (1, 2, 3))
GAIN_MAP = jpeg(photo((32, 24), seed=9).convert("L"))


@pytest.mark.parametrize("size", [7, 997, 1 << 20])
def test_two_pictures_in_a_file(size: int, tmp_path: Path) -> None:
    both = multi_picture(A, GAIN_MAP)
    (tmp_path / "photo.jpg").write_bytes(both)
    assert load_image(tmp_path / "photo.jpg").size == (64, 48)
    assert index_sizes(both[both.index(b"MPF\0") + 4 :]) == [len(GAIN_MAP)]
    assert split(both, size) == [both[: -len(GAIN_MAP)]]
    assert split(B + both + multi_picture(C, GAIN_MAP, B) + A, size) == [
        B,
        both[: -len(GAIN_MAP)],
        multi_picture(C, GAIN_MAP, B, stale=True),
        A,
    ]
    # An index that outlived its pictures takes no other with it
    assert split(multi_picture(A, GAIN_MAP, stale=True) + C, size)[1:] == [C]


def test_gain_map_announced_by_xmp_alone() -> None:
    xmp = f'<Container:Item Item:Semantic="GainMap" Item:Length="{len(GAIN_MAP)}"/>'
    first = with_segment(A, 0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xmp.encode())
    assert split(first + GAIN_MAP + B) == [first, B]


def test_previews_are_no_frames_also_in_a_picture_that_is_cut_short() -> None:
    preview = jpeg(photo((16, 12)))
    ifd = struct.pack("<HHHIIHHIII", 2, 0x0201, 4, 1, 44, 0x0202, 4, 1, len(preview), 0)
    block = b"Exif\0\0II*\0" + struct.pack("<IHI", 8, 0, 14) + ifd + preview
    picture = with_segment(A, 0xE1, block)
    assert Exif(block).preview == 44
    assert split(picture + B) == [picture, B]
    for place in range(30, len(block) + 200, 7):
        assert split(picture[:place] + B)[-1] == B and B in split(picture[:place] + B + C)
        assert preview not in split(picture[:place] + B + C)


def test_a_truncated_picture_is_counted_and_does_not_take_the_next_with_it() -> None:
    for place in range(3, len(A) - 2):
        assert split(A[:place] + B + C) == [None, B, C], place
    assert split(B + A[:-2]) == [B, None]


def test_damage_in_compressed_data_is_named(tmp_path: Path) -> None:
    start = A.index(b"\xff\xda") + 14
    middle = (start + len(A)) // 2
    long = jpeg(photo((320, 240), seed=4), restart_marker_blocks=4)
    scan = long.index(b"\xff\xda") + 14
    restarts = [at for at in range(scan, len(long) - 1) if long[at] == 0xFF and 0xD0 <= long[at + 1] <= 0xD7]
    damaged = {
        "zero": long[: len(long) // 2] + bytes(len(long) // 2 - 2) + long[-2:],
        "marker": A[:middle] + b"\xff\xc3" + A[middle + 2 :],
        "restart": long[: restarts[3]] + long[restarts[5] :],
    }
    for word, data in damaged.items():
        (tmp_path / "photo.jpg").write_bytes(data)
        with pytest.raises(DataError, match=f"photo.jpg is damaged: .*{word}"):
            load_image(tmp_path / "photo.jpg")
        assert split(data + B)[-1] == B
    flat = jpeg(Image.new("RGB", (1024, 1024), (90, 90, 90)), optimize=True)
    (tmp_path / "flat.jpg").write_bytes(flat)  # of which most bytes are zero
    assert flat.count(0) > len(flat) / 2 and load_image(tmp_path / "flat.jpg").size == (1024, 1024)


@pytest.fixture
def other_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Programs that Pillow might start, replaced by one that leaves a trace."""
    trace, folder = tmp_path / "trace", tmp_path / "bin"
    folder.mkdir()
    for name in ("gs", "gswin32c", "gswin64c", "djpeg", "xv", "display", "convert"):
        (folder / name).write_text(f"#!/bin/sh\necho {name} >> {trace}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    yield trace
    assert not trace.exists(), trace.read_text()


OTHER_KINDS = {
    "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n",
    "PDF": b"%PDF-1.4\n%%EOF\n",
    "PSD": b"8BPS\0\1" + bytes(20),
    "ICO": b"\0\0\1\0\1\0" + bytes(20),
    "SVG": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "JPEG 2000": b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(20),
    "JPEG XL": b"\xff\x0a" + bytes(20),
    "video": b"\0\0\0\x18ftypisom\0\0\2\0isommp41" + bytes(20),
}


@pytest.mark.parametrize("kind", OTHER_KINDS)
@pytest.mark.parametrize("ending", ["jpg", "png", "tif"])
def test_what_pillow_hands_to_other_programs(
    kind: str, ending: str, tmp_path: Path, other_programs: Path
) -> None:
    path = tmp_path / f"photo.{ending}"
    path.write_bytes(OTHER_KINDS[kind])
    with pytest.raises(DataError, match=f"photo.{ending} holds .*{kind}"):
        load_image(path)


def test_pictures_are_opened_under_a_list_of_formats_everywhere() -> None:
    for room in ("rmatk", "export", "runtime", "tools", "benchmarks"):
        for file in (ROOT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and ast.unparse(node.func) == "Image.open":
                    assert any(word.arg == "formats" for word in node.keywords), f"{file}:{node.lineno}"


def test_pipes_and_folders_named_like_pictures_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "folder.jpg").mkdir()
    for name in ("pipe.jpg", "folder.jpg"):
        with pytest.raises(DataError, match=name):
            load_image(tmp_path / name)


BYTES = b"caf\xe9 \xff.jpg"


def test_file_names(tmp_path: Path, tiny_bundle: Path, rmatk: Command) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in (BYTES, b"plain.jpg", b"bro\xe9ken.jpg"):
        (folder / os.fsdecode(name)).write_bytes(jpeg() if b"bro" not in name else b"nothing")
    lines, table = tmp_path / "out.jsonl", tmp_path / "out.csv"
    for output in (("--jsonl", lines), ("--csv", table), ()):
        code, out, errors = rmatk("infer", tiny_bundle, folder, "--backend", "cpu", *output)
        assert code == 0, errors
        assert "bro\\xe9ken.jpg" in errors
    assert "caf\\xe9 \\xff.jpg" in out
    sources = [json.loads(line)["source"] for line in lines.read_text().splitlines()]
    assert sources == [f"{folder}/caf\\xe9 \\xff.jpg", f"{folder}/plain.jpg"]
    assert "caf\\xe9 \\xff.jpg" in table.read_text()
    code, out, errors = rmatk("infer", tiny_bundle, folder / os.fsdecode(BYTES), "--backend", "cpu", "--json")
    assert code == 0 and json.loads(out)["frames"] == 1, errors


def test_stretch_is_recorded_and_applied_everywhere(tmp_path: Path, rmatk: Command) -> None:
    photos, run, bundle = tmp_path / "photos", tmp_path / "run", tmp_path / "bundle"
    for number, (name, low) in enumerate((("cold", 29_000), ("warm", 31_000))):
        (photos / name).mkdir(parents=True)
        for shot in range(3):
            grey16(low, low + 900 + 100 * shot, (60 + 10 * number, 50)).save(photos / name / f"{shot}.png")
    model = ("--model", "rmatk-micro", "--shots", 2, "--epochs", 1)
    code, _, errors = rmatk("train", photos, "-o", run, *model, "--stretch", "28000:33000")
    assert code == 0 and "16-bit greyscale" not in errors, errors
    assert json.loads((run / "run.json").read_text())["preprocess"]["stretch"] == [28000, 33000]
    code, _, errors = rmatk("export", run, "-o", bundle)
    assert code == 0 and "16-bit greyscale" not in errors, errors
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert manifest["preprocess"]["stretch"] == [28000, 33000] and manifest["minor"] == 1
    code, out, errors = rmatk("infer", bundle, photos, "--backend", "cpu", "--json")
    assert code == 0 and "16-bit greyscale" not in errors and json.loads(out)["frames"] == 6
    code, out, errors = rmatk("parity", bundle, photos, "--against", run, "--backend", "cpu", "--json")
    assert code == 0, errors
    assert rmatk("train", photos, "-o", run, *model, "--stretch", "9:3")[0] == 2
