"""The page of a parity check: its verdict, its pictures, and charts that say what was measured."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from html import unescape
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest

from rmatk.parity.charts import changes, profile, spread
from rmatk_runtime.bundle import Bundle
from rmatk_runtime.bundle.labels import ClassMatrix, encode_classes, load_classes
from rmatk_runtime.bundle.manifest import MANIFEST, Decision, FileEntry, Tolerance, encode_manifest
from rmatk_runtime.files import sha256_file
from rmatk_runtime.parity.compare import Expected, Judge, compare_embeddings
from rmatk_runtime.parity.stage import Bisection, NodeDeviation, StageKind, StageResult

CLASSES = ClassMatrix(("left", "right"), np.array([[1, 0], [0, 1]], np.float32))
LOOSE = Tolerance(min_cosine=0.99, max_embedding_difference=9.0, min_agreement=0.0)


def stage(turned: list[float], truth: list[str] | None = None) -> StageResult:
    """Embeddings at 30 degrees, and the same turned by so many degrees."""

    def unit(degrees: np.ndarray) -> np.ndarray:
        return np.stack([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))], axis=1)

    angles = np.full(len(turned), 30.0)
    return compare_embeddings(
        "engine",
        StageKind.GRAPH,
        "fp32",
        Expected([f"{number}.png" for number in range(len(turned))], unit(angles), truth),
        unit(angles + turned),
        Judge(CLASSES, Decision(logit_scale=10.0), {"fp32": LOOSE}),
    )


def test_the_spread_counts_images_by_decade():
    found = stage([0.5, 0.5, 5.0, 20.0, 60.0])
    expected = np.zeros(16, int)
    for degrees in (0.5, 0.5, 5.0, 20.0, 60.0):
        expected[int(np.floor(-np.log10(1 - np.cos(np.radians(degrees)))))] += 1
    assert found.spread == tuple(expected) and sum(found.spread) == 5
    drawn = spread(found)
    # Sixteen decades over 284, closest left: 1e-5..1e-4 begins 11 decades in, the tolerance 0.01 lies at 14.
    places, counts = re.findall(r'class="bar" x="([\d.]+)"', drawn), re.findall(r'"figure" .*?>(\d+)<', drawn)
    bars = {float(x): int(n) for x, n in zip(places, counts, strict=True)}
    decades = {round(8 + 284 / 16 * (15 - d) + 1, 1): int(n) for d, n in enumerate(expected) if n}
    assert bars == decades
    assert f'class="limit" d="M{8 + 284 / 16 * 14:.1f}' in drawn
    assert spread(stage([0.0])).count('class="bar"') == 1


def test_figures_over_neighbouring_bars_make_room():
    counts = {3: 10_000, 4: 9_999, 5: 9_998, 6: 9_997, 8: 7}
    found = msgspec.structs.replace(stage([0.5]), spread=tuple(counts.get(power, 0) for power in range(16)))
    drawn = re.findall(r'class="figure" x="([\d.]+)" y="([\d.]+)">(\d+)<', spread(found))
    boxes = [(float(x), float(y), 8 * 0.64 * len(text) / 2) for x, y, text in drawn]
    assert [int(text) for *_, text in drawn] == [counts[power] for power in sorted(counts, reverse=True)]
    for number, (x, y, half) in enumerate(boxes):
        assert y >= 14 + 8  # below the title
        assert all(abs(x - a) >= half + h or abs(y - b) >= 8 for a, b, h in boxes[:number])


def test_a_profile_has_its_scale_beside_it_and_a_mark_where_the_graph_departs():
    def node(name: str, own: float) -> NodeDeviation:
        figures = {"own": own, "inputs": 0.0, "output": own, "cosine": 1.0}
        return NodeDeviation(node=name, op="Add", place="head", precision="fp32", **figures)

    nodes = (node("a", 1e-9), node("b", 1e-3), node("c", 1e-6), node("d", 1.0))
    found = Bisection(
        stage="s", reference="itself", images=1, departs=nodes[1], nodes=nodes, end=1.0, fused=1.0
    )
    drawn = profile(found)
    scale = {text: float(y) for y, text in re.findall(r'class="scale" x="34" y="([\d.]+)">(\S+?)<', drawn)}
    tops = [float(y) for y in re.findall(r'<rect class="bar" x="\S+" y="([\d.]+)"', drawn)]
    assert tops == [scale[power] for power in ("1e-9", "1e-3", "1e-6", "1e0")] == [72.0, 29.3, 50.7, 8.0]
    left = [float(x) for x in re.findall(r'<rect class="bar" x="([\d.]+)"', drawn)]
    assert left == [38 + 254 / 4 * number for number in range(4)]
    assert re.findall(r'class="limit" d="M([\d.]+) ', drawn) == [f"{38 + 254 / 4 * 1.5:.2f}"]
    sound = msgspec.structs.replace(found, departs=None)
    assert 'class="limit"' not in profile(sound)


def test_the_interval_is_drawn_where_it_lies():
    found = stage([0.0, 0.0, 40.0, 0.0], truth=["left"] * 4)
    drawn = changes([found])
    difference = found.accuracy_difference
    assert difference is not None and difference.lost == 1
    low, high = map(float, re.search(r'class="mark" d="M([-\d.]+) \d+H([-\d.]+)"', drawn).groups())
    at = float(re.search(r'circle cx="([-\d.]+)"', drawn)[1])
    scale = 0.48 * 284 / max(-difference.low, difference.high)
    expected = [150 + scale * share for share in (difference.low, difference.high, difference.difference)]
    assert [low, high, at] == pytest.approx(expected, abs=0.06)
    assert changes([stage([0.0])]) == ""


def test_a_failing_bundle_has_its_stage_its_node_and_its_pictures(
    rmatk, every_precision: Path, alter: Callable[..., Path], check_html, tmp_path: Path
):
    def other_operator(model: onnx.ModelProto) -> None:
        next(node for node in model.graph.node if node.name == "blocks.0.mid").op_type = "Sub"

    bundle = alter(every_precision, "int8", other_operator)
    file = tmp_path / "page.html"
    code, out, _ = rmatk("parity", bundle, "--bisect", "--html", file, "--json")
    page = file.read_text(encoding="utf-8")
    check_html(page)
    page = unescape(page)
    stages = msgspec.json.decode(out)["stages"]
    (failed,) = [stage for stage in stages if not stage["passed"]]
    assert code == 3 and "Fails at the stage 'onnxruntime cpu int8': cosine" in page
    assert "diverges from the bundle's fp32 graph at the node blocks.0.mid (Add in block 0, mid)" in page
    assert "<h3>onnxruntime cpu int8</h3><p>onnxruntime cpu int8 diverges from" in page
    assert page.count('class="wrong"><td>onnxruntime cpu int8') == 1
    pictures = re.findall(r'<figure( class="\w+")?><img alt="(.*?)"', page)
    assert len(pictures) == len(failed["flips"]) > 0
    for (frame, caption), flip in zip(pictures, failed["flips"], strict=True):
        assert caption.startswith(f"{flip['reference']} → {flip['candidate']}") and flip["image"] in caption
        right = {flip["reference"]: "wrong", flip["candidate"]: "right"}.get(flip["truth"])
        assert frame == ("" if right is None else f' class="{right}"')
    assert f"onnxruntime cpu int8: {len(failed['flips'])} of 8" in page


def test_a_sound_bundle_says_so_on_photos_too(
    rmatk, tiny_bundle: Path, tiny_run, tiny, check_html, monkeypatch, tmp_path: Path
):
    monkeypatch.setattr("rmatk.backbones.backbone.load_backbone", lambda *names: tiny)
    file = tmp_path / "sub" / "page.html"
    photos = tiny_run.record.data
    code, out, _ = rmatk("parity", tiny_bundle, photos, "--against", tiny_run.path, "--html", file)
    page = file.read_text(encoding="utf-8")
    check_html(page)
    assert code == 0 and f"the page: {file}" in out
    assert "Passes: every stage" in page and "None: every image has the label" in page
    assert "How accuracy moved" in page and "Node by node" not in page
    for name in ("class matrix", "torch folded", "onnxruntime cpu fp32"):
        assert page.count(f">{name}</text>") >= 1 and f"<td>{name}</td>" in page


def test_labels_that_changed_places_are_named_without_pictures(
    rmatk, tiny_bundle: Path, tiny_run, tiny, check_html, monkeypatch, tmp_path: Path
):
    monkeypatch.setattr("rmatk.backbones.backbone.load_backbone", lambda *names: tiny)
    copy = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    manifest, held = Bundle.open(copy).manifest, load_classes(copy / "classes.npz")
    swapped = encode_classes(ClassMatrix(held.names, held.embeddings[[1, 0, 2]]))
    (copy / "classes.npz").write_bytes(swapped)
    entry = FileEntry(size=len(swapped), sha256=sha256_file(copy / "classes.npz"))
    files = {**manifest.files, "classes.npz": entry}
    (copy / MANIFEST).write_bytes(encode_manifest(msgspec.structs.replace(manifest, files=files)))
    file = tmp_path / "page.html"
    photos = tiny_run.record.data
    code, _, error = rmatk("parity", copy, photos, "--against", tiny_run.path, "--html", file)
    page = file.read_text(encoding="utf-8")
    check_html(page)
    assert code == 3 and "fails at the stage 'class matrix'" in error
    for one, other in (held.names[:2], held.names[1::-1]):
        assert f"What PyTorch embeds for {one} is nearest to {other}." in page
    assert "<img" not in page and "<b>24</b>images" in page


def test_a_page_that_cannot_be_written_is_a_named_error(rmatk, tiny_bundle: Path, tmp_path: Path):
    (tmp_path / "file").write_text("not a folder")
    code, _, err = rmatk("parity", tiny_bundle, "--html", tmp_path / "file" / "page.html")
    assert code == 1 and "cannot write" in err and "Traceback" not in err
