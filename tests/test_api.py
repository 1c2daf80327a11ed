"""The library: names, examples in docstrings, torch-free import, and errors that name fields."""

from __future__ import annotations

import ast
import doctest
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import rmatk
import rmatk_runtime.errors

ROOT = Path(__file__).parents[1]
EXAMPLES = ("train", "evaluate", "export", "check_parity", "Bundle", "Classifier")  # in the data's order


def test_every_public_name_is_there_and_nothing_else():
    for name in rmatk.__all__:
        assert getattr(rmatk, name) is not None
    assert dir(rmatk) == sorted(rmatk.__all__)
    errors = {name for name, kind in vars(rmatk_runtime.errors).items() if isinstance(kind, type)}
    assert {name for name in errors if name.endswith("Error")} <= set(rmatk.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'training_loop'"):
        _ = rmatk.training_loop


def test_type_checkers_see_the_same_names():
    tree = ast.parse((ROOT / "rmatk" / "__init__.py").read_text(encoding="utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {alias.name for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert seen | {"__version__"} == set(rmatk.__all__)


def test_import_loads_neither_torch_nor_an_engine():
    code = (
        "import sys, rmatk; rmatk.Classifier, rmatk.Bundle, rmatk.TrainConfig, rmatk.train\n"
        "print(sorted({'torch', 'onnx', 'onnxruntime', 'open_clip', 'tensorrt'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory, draw_photos) -> Iterator[Path]:
    """A folder with photos, and what the examples make in it."""
    folder = tmp_path_factory.mktemp("api")
    draw_photos(folder / "photos", {"red_stripe": 8, "green_check": 8, "blue_dot": 8})
    shutil.copy(folder / "photos" / "red_stripe" / "0.png", folder / "photo.png")
    before = Path.cwd()
    os.chdir(folder)
    yield folder
    os.chdir(before)


def run_examples(name: str, value: object) -> None:
    tests = doctest.DocTestFinder(recurse=False).find(value, name, globs={"rmatk": rmatk})
    assert any(test.examples for test in tests), f"{name} has no example"
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    for test in tests:
        assert runner.run(test).failed == 0, f"the example of {name} fails; see the captured output"


@pytest.mark.parametrize("name", [*EXAMPLES, "rmatk"])
def test_the_example_in_the_docstring_runs(workplace: Path, name: str):
    run_examples(name, rmatk if name == "rmatk" else getattr(rmatk, name))


@pytest.mark.tensorrt
def test_the_example_of_engines_runs_where_a_builder_is_installed(workplace: Path):
    try:
        from rmatk_runtime.tensorrt.library import load_tensorrt

        load_tensorrt()
    except rmatk.MissingExtraError as error:
        pytest.skip(error.message)
    run_examples("build_engines", rmatk.build_engines)


def test_every_function_and_class_has_an_example():
    functions = {name for name in rmatk.__all__ if name[0].islower()} - {"__version__"}
    assert functions | {"Bundle", "Classifier"} <= {*EXAMPLES, "build_engines"}


def test_pictures_come_in_every_form(tiny_bundle: Path, tmp_path: Path):
    Image.new("RGB", (40, 30), (200, 30, 30)).save(tmp_path / "a.png")
    image = Image.open(tmp_path / "a.png")
    forms = [image, np.asarray(image), tmp_path / "a.png", str(tmp_path / "a.png")]
    with rmatk.Classifier.open(str(tiny_bundle)) as classifier:
        predictions = classifier.classify(forms)
        assert len({prediction.top for prediction in predictions}) == 1
        for wrong in (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32)):
            with pytest.raises(rmatk.ConfigError, match=r"images\[0\] must be \(H, W, 3\) uint8 RGB, not"):
                classifier.classify([wrong])
        with pytest.raises(rmatk.DataError, match=r"absent\.png"):
            classifier.classify([tmp_path / "absent.png"])


WRONG: list[tuple[Callable[[], object], str]] = [
    (
        lambda: rmatk.TrainConfig(shots=0, image_blocks=0),
        "shots must be at least 1, not 0; image_blo",
    ),
    (
        lambda: rmatk.ExportConfig(precisions=("fp8",)),
        "precisions must be fp32, fp16 or int8, not fp8",
    ),
    (lambda: rmatk.InferConfig(top_k=0, threshold=2), "top_k must be at least 1, not 0; threshold must be"),
    (lambda: rmatk.SourceOptions(rotate=45), "rotate must be 0, 90, 180 or 270, not 45"),
    (lambda: rmatk.check_parity("bundle", against="run"), "data is missing: data and against go together"),
]


@pytest.mark.parametrize(("call", "message"), WRONG, ids=[message for _, message in WRONG])
def test_a_bad_argument_is_one_kind_of_error_that_names_the_field(call: Callable[[], object], message: str):
    with pytest.raises(rmatk.ConfigError) as caught:
        call()
    assert str(caught.value).startswith(message) and isinstance(caught.value, ValueError)
    assert isinstance(caught.value, rmatk.RmatkError) and "--" not in str(caught.value)


def test_a_missing_extra_names_its_install_line(tmp_path: Path):
    code = (
        "import sys; sys.modules['torch'] = None\nimport rmatk\n"
        f"try:\n    rmatk.train('photos', {str(tmp_path / 'run')!r})\n"
        "except rmatk.MissingExtraError as error:\n    print(error.message, error.hint, sep='; ')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "torch is not installed; pip install 'rmatk[train]'\n"


def test_the_command_line_names_the_option(capsys, monkeypatch, tmp_path: Path):
    from rmatk.cli import main

    typed = ["train", "photos", "-o", str(tmp_path / "run"), "--shots", "0", "--template", "a photo"]
    monkeypatch.setattr(sys, "argv", ["rmatk", *typed])
    with pytest.raises(SystemExit) as left:
        main()
    error = capsys.readouterr().err
    assert left.value.code == 2 and "rmatk train [OPTIONS]" in error
    assert "--shots must be at least 1, not 0; --template must contain {} once" in error
