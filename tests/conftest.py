"""Fixtures shared by all tests: a tiny random CLIP, a small folder of drawn photos, and the real ones."""

from __future__ import annotations

import os
import re
import signal
import sys
import tempfile
import zlib
from collections.abc import Callable, Generator
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from rmatk_runtime.pictures.preprocess import PreprocessSpec

if TYPE_CHECKING:
    from torch import Tensor

    from rmatk.backbones.backbone import Backbone
    from rmatk.run import Run
    from rmatk_export.export_input import ExportSource
    from rmatk_runtime.bundle.manifest import Input

TINY_CONTEXT = 16
TINY_VOCABULARY = 64
TINY_WORDS = "a photo of blue dot. green check. red stripe."
TINY_PREPROCESS = PreprocessSpec(32, 32, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


def pytest_configure() -> None:
    """Let the processes that tests start import the checkout and be interrupted as from a terminal."""
    os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="rmatk-tests-")  # not the user's own
    root = Path(__file__).parents[1]
    rooms = [str(root), str(root / "export"), str(root / "runtime")]
    os.environ["PYTHONPATH"] = os.pathsep.join([*rooms, *filter(None, [os.environ.get("PYTHONPATH")])])
    os.environ["HF_HUB_OFFLINE"] = "1"  # nothing is fetched, nor waited for
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # so starts what a script puts into the background
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--must-run tensorrt``: what the gate installs everything for must not be skipped in silence."""
    parser.addoption(
        "--must-run", action="append", default=[], metavar="MARKER", help="a skip of such a test is a failure"
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skip into a failure where the test bears a marker of ``--must-run``."""
    report = yield
    if report.skipped and any(map(item.get_closest_marker, item.config.getoption("--must-run"))):
        report.outcome, report.longrepr = "failed", f"skipped, and must not be: {report.longrepr}"
    return report


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real photographs beside the repository; tests that need them skip where they are absent."""
    path = Path(__file__).parents[2] / "shared" / "data"
    if not path.is_dir():
        pytest.skip("the real photographs (../shared/data beside the repository) are not here")
    return path


@pytest.fixture
def rmatk(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str, str]]:
    """Runs a command line -> (exit code, standard output, standard error)."""

    from rmatk.cli import main

    def run(*args: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["rmatk", *map(str, args)])
        with pytest.raises(SystemExit) as left:
            main()
        printed = capsys.readouterr()
        return int(left.value.code or 0), printed.out, printed.err

    return run


class _Balanced(HTMLParser):
    """Fails on a tag that is closed out of order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attributes: Any) -> None:
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: Any) -> None:
        """Closed where it was opened."""

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="session")
def check_html() -> Callable[[str], None]:
    """Asserts that a page is whole, filled in, and needs nothing from outside."""

    def check(page: str) -> None:
        parser = _Balanced()
        parser.feed(page)
        assert parser.open == []
        written = re.sub(r'base64,[^"]*', "", page)
        assert "$" not in written and "http" not in written

    return check


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """An ImageFolder of 3 classes x 8 photos of 40 x 36 pixels that colour and stripes tell apart."""
    return draw_photos_into(tmp_path / "photos", {"red_stripe": 8, "green_check": 8, "blue_dot": 8})


@pytest.fixture(scope="session")
def draw_photos() -> Callable[[Path, dict[str, int]], Path]:
    """Draws an ImageFolder with so many photos per class; see :func:`draw_photos_into`."""
    return draw_photos_into


@pytest.fixture(scope="session")
def tiny_preprocess() -> PreprocessSpec:
    """The preprocessing of the tiny backbones: 32 x 32."""
    return TINY_PREPROCESS


def draw_photos_into(root: Path, counts: dict[str, int]) -> Path:
    """Draw ``counts[name]`` noisy photos per class folder; the class's number gives colour and period."""
    for number, (name, count) in enumerate(counts.items()):
        (root / name).mkdir(parents=True)
        random = np.random.default_rng(number)
        for photo in range(count):
            pixels = random.integers(0, 60, (36, 40, 3))
            pixels[:: number + 2, :, number % 3] += 150
            Image.fromarray(pixels.astype(np.uint8)).save(root / name / f"{photo}.png")
    return root


def tiny_tokenize(texts: list[str]) -> Tensor:
    """One token per word; start 62, end 63 (the highest), padding 0 -> (N, TINY_CONTEXT) int64."""
    import torch

    tokens = torch.zeros(len(texts), TINY_CONTEXT, dtype=torch.int64)
    for row, text in enumerate(texts):
        words = [1 + zlib.crc32(word.encode()) % 61 for word in text.split()][: TINY_CONTEXT - 2]
        tokens[row, : len(words) + 2] = torch.tensor([62, *words, 63])
    return tokens


def tiny_tokenizer_json(words: str) -> str:
    """A Hugging Face tokenizer that agrees with :func:`tiny_tokenize` on ``words``."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from tokenizers.processors import TemplateProcessing

    vocabulary = {word: 1 + zlib.crc32(word.encode()) % 61 for word in words.split()}
    assert len(set(vocabulary.values())) == len(vocabulary)
    tokenizer = Tokenizer(WordLevel(vocabulary | {"<start>": 62, "<end>": 63}))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    ends = [("<start>", 62), ("<end>", 63)]
    tokenizer.post_processor = TemplateProcessing(single="<start> $A <end>", special_tokens=ends)
    tokenizer.enable_truncation(TINY_CONTEXT)
    tokenizer.enable_padding(length=TINY_CONTEXT, pad_id=0)
    return str(tokenizer.to_str())


def build_tiny_clip(
    *, seed: int = 0, custom_text: bool = False, vision: dict[str, Any] | None = None, **text: Any
) -> Backbone:
    """A random open_clip CLIP: 3 image blocks of width 48, 3 text blocks of width 32, features of 24."""
    import torch

    from rmatk.backbones.backbone import wrap
    from rmatk.backbones.torchvision_ops import import_torchvision

    import_torchvision()
    import open_clip

    torch.set_num_threads(1)  # at this size threads wait for each other longer than they work

    vision_cfg = {
        "image_size": 32,
        "patch_size": 8,
        "width": 48,
        "layers": 3,
        "head_width": 16,
        **(vision or {}),
    }
    text_cfg = {
        "context_length": TINY_CONTEXT,
        "vocab_size": TINY_VOCABULARY,
        "width": 32,
        "heads": 2,
        "layers": 3,
    }
    kind = open_clip.CustomTextCLIP if custom_text else open_clip.CLIP
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = kind(24, vision_cfg, {**text_cfg, **text}, quick_gelu=True)
        for parameter in model.parameters():  # biases and norms start at 0 and 1, which would hide mistakes
            if parameter.ndim == 1:
                parameter.data.add_(0.1 * torch.randn_like(parameter))
    return wrap(
        model,
        tiny_tokenize,
        tiny_tokenizer_json(TINY_WORDS),
        TINY_PREPROCESS,
        name=f"tiny-{seed}",
        pretrained=None,
    )


@pytest.fixture(scope="session")
def tiny_clip() -> Callable[..., Backbone]:
    """Builds tiny random backbones; see :func:`build_tiny_clip`."""
    return build_tiny_clip


@pytest.fixture(scope="session")
def tiny() -> Backbone:
    """The tiny random backbone, with the text modules on the CLIP itself."""
    return build_tiny_clip()


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory, tiny: Backbone) -> Run:
    """The tiny backbone trained for a moment on drawn photos, so that its adapters are far from zero."""
    from rmatk.config import TrainConfig
    from rmatk.training.train import train

    root = tmp_path_factory.mktemp("tiny")
    data = draw_photos_into(root / "photos", {"red_stripe": 8, "green_check": 8, "blue_dot": 8})
    config = TrainConfig(model=tiny.name, shots=6, epochs=2, lr=0.02, rank=4)
    return train(config, tiny, data, root / "run")


@pytest.fixture(scope="session")
def tiny_source(tiny_run: Run, tiny: Backbone) -> ExportSource:
    """What the tiny run's bundle is made of."""
    from rmatk.deployment.from_run import export_source

    return export_source(tiny_run, tiny, golden=8)


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory, tiny_source: ExportSource) -> Path:
    """The tiny run's bundle; tests that alter it copy it first."""
    from rmatk_export.bundle_writer import write_bundle

    path = tmp_path_factory.mktemp("tiny-bundle") / "bundle"
    write_bundle(tiny_source, path)
    return path


@pytest.fixture(scope="session")
def every_precision(tmp_path_factory: pytest.TempPathFactory, tiny_run: Run, tiny: Backbone) -> Path:
    """The tiny run's bundle with graphs of all precisions."""
    from rmatk.deployment.from_run import export_source
    from rmatk_export.bundle_writer import write_bundle

    path = tmp_path_factory.mktemp("every-precision") / "bundle"
    write_bundle(export_source(tiny_run, tiny, golden=8, precisions=("fp32", "fp16", "int8")), path)
    return path


@pytest.fixture
def alter(tmp_path: Path) -> Callable[..., Path]:
    """Copies a bundle, changes one of its graphs, and makes the manifest agree with it."""
    import shutil

    import msgspec
    import onnx

    from rmatk_runtime.bundle import Bundle
    from rmatk_runtime.bundle.manifest import MANIFEST, FileEntry, encode_manifest
    from rmatk_runtime.files import sha256_file

    def change_graph(
        bundle: Path, precision: str, change: Callable[[onnx.ModelProto], None], *, kind: Input = "images"
    ) -> Path:
        copy = Path(shutil.copytree(bundle, tmp_path / "altered"))
        opened = Bundle.open(copy)
        name = opened.graph(precision, kind).file
        model = onnx.load(str(copy / name))
        change(model)
        (copy / name).write_bytes(model.SerializeToString())
        entry = FileEntry(size=(copy / name).stat().st_size, sha256=sha256_file(copy / name))
        manifest = msgspec.structs.replace(opened.manifest, files={**opened.manifest.files, name: entry})
        (copy / MANIFEST).write_bytes(encode_manifest(manifest))
        return copy

    return change_graph
