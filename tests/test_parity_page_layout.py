"""The page of ``rmatk parity --html`` in headless Chromium: no text lies on another, and nothing
makes the page wider than the screen."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from rmatk.parity.page import write_parity_page
from rmatk_runtime.bundle import Bundle
from rmatk_runtime.bundle.manifest import Precision
from rmatk_runtime.parity.compare import TOLERANCES
from rmatk_runtime.parity.stage import Bisection, Flip, NodeDeviation, StageKind, StageResult
from rmatk_runtime.parity.statistics import AccuracyDifference
from tools.browser import browser, chromium

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(chromium() is None, reason="chromium and chromium-driver are not installed"),
]
LONG = "a class whose name is as long as those of ImageNet, German short-haired pointer, "


def stage(name: str, precision: Precision, spread: dict[int, int], flips: int, passed: bool) -> StageResult:
    """``spread``: images by decade of 1 - cosine; ``flips``: images with another label."""
    images = sum(spread.values())
    return StageResult(
        stage=name,
        kind=StageKind.CLASS_MATRIX if name == "class matrix" else StageKind.GRAPH,
        images=images,
        passed=passed,
        reason=None
        if passed
        else "cosine 0.912345 of the image a/rather/long/name_of_a_photo.jpg, below 0.95",
        tolerance=TOLERANCES[precision],
        min_cosine=0.912345,
        mean_cosine=0.987654,
        max_embedding_difference=0.12,
        max_logit_difference=12.3,
        agreement=1 - flips / images,
        accuracy=0.876,
        reference_accuracy=0.987,
        accuracy_difference=AccuracyDifference(difference=-0.111, low=-0.125, high=-0.101, lost=9, gained=1),
        flips=tuple(
            Flip(
                image=f"{LONG}/photo_{number:04}.jpg",
                reference=f"{LONG}{number}",
                candidate=f"{LONG}{number + 1}",
                margin=0.5 / (number + 1),
                truth=f"{LONG}{number + number % 3}",
            )
            for number in range(flips)
        ),
        spread=tuple(spread.get(decade, 0) for decade in range(16)),
    )


def bisection(name: str, precision: Precision, nodes: int) -> Bisection:
    """Deviations all over the scale, one not finite, one that is too large."""
    rng = np.random.default_rng(nodes)
    drawn = [
        NodeDeviation(
            node=f"blocks.{number // 18}.attention_out.matmul",
            op="MatMul + Add" if precision == "int8" else "SimplifiedLayerNormalization",
            place=f"block {number // 18}, attention",
            precision=precision,
            own=None if number == nodes - 1 else float(10 ** rng.uniform(-9, 0.5)),
            inputs=float(10 ** rng.uniform(-9, 0.5)),
            output=float(10 ** rng.uniform(-9, 0.5)),
            cosine=0.999252,
        )
        for number in range(nodes)
    ]
    departs = drawn[nodes // 2] if precision == "int8" else None
    return Bisection(
        stage=name, reference="run", images=2, departs=departs, nodes=tuple(drawn), end=0.1, fused=0.1
    )


@pytest.fixture(scope="module")
def page(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with much on it: many photos, flips, nodes, names as long as they come."""
    stages = [
        stage("class matrix", "fp32", {15: 1000}, 200, False),
        stage("torch folded", "fp32", {15: 1, 14: 49_998, 13: 1}, 0, True),
        stage("onnxruntime tensorrt fp32", "fp32", {13: 17_000, 12: 17_001, 11: 15_999}, 3, True),
        stage(
            "TensorRT for RTX int8 1:16:128", "int8", {0: 9_999, 1: 20_001, 2: 10_000, 3: 10_000}, 60, False
        ),
    ]
    file = tmp_path_factory.mktemp("page") / "page.html"
    write_parity_page(
        file,
        Bundle.open(tiny_bundle),
        stages,
        [
            bisection("onnxruntime tensorrt fp32", "fp32", 217),
            bisection("TensorRT for RTX int8 1:16:128", "int8", 430),
        ],
        reference="against /a/run in PyTorch, both branches present, on the photos in /some/where/"
        + 9 * "deep_",
        picture=lambda name: np.full((90, 120, 3), len(name) % 256, np.uint8),
    )
    return file


@pytest.fixture(scope="module")
def chrome() -> Iterator[Chrome]:
    with browser() as driver:
        yield driver


BOXES = """
    const box = text => {
        const {left, right, top, bottom} = text.getBoundingClientRect();
        return [text.textContent, left, right, top, bottom];
    };
    return [...document.querySelectorAll('svg')].map(chart => [...chart.querySelectorAll('text')].map(box));
"""
EDGES = """
    const chart = [...document.querySelectorAll('svg')].at(-1);
    const boxes = kind => [...chart.querySelectorAll(kind)].map(each => each.getBoundingClientRect());
    return [boxes('text').map(box => box.right), boxes('rect, polyline').map(box => box.left)];
"""


@pytest.mark.parametrize("width", [400, 700, 1100])
def test_nothing_overlaps_and_the_page_fits(chrome: Chrome, page: Path, width: int):
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    chrome.get(page.as_uri())
    assert chrome.execute_script("return document.documentElement.scrollWidth") <= width
    charts = chrome.execute_script(BOXES)
    assert len(charts) == 7
    for texts in charts:
        assert len(texts) >= 4
        for one, other in combinations(texts, 2):
            apart = one[2] <= other[1] or other[2] <= one[1] or one[4] <= other[3] or other[4] <= one[3]
            assert apart, (one, other)
    labels, marks = chrome.execute_script(EDGES)
    assert max(labels) <= min(marks)  # a scale stands beside what it measures
