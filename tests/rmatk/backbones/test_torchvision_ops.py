"""torchvision imports beside a torch without its compiled operators, and no other failure is hidden."""

from __future__ import annotations

import importlib
import subprocess
import sys
from types import ModuleType

import pytest

from rmatk.backbones import torchvision_ops

NMS_ERROR = "operator torchvision::nms does not exist"


def test_open_clip_imports_after_the_mend() -> None:
    code = (
        "from rmatk.backbones.torchvision_ops import import_torchvision as f\n"
        "assert f() is f()\n"
        "import torchvision.transforms, open_clip\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_importing_the_module_imports_no_torch() -> None:
    code = "import sys, rmatk.backbones.torchvision_ops; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RuntimeError(NMS_ERROR), True),
        (RuntimeError("operator torchvision::roi_align does not exist"), False),
        (ImportError(NMS_ERROR), False),
    ],
)
def test_only_the_missing_nms_is_recognised(error: Exception, expected: bool) -> None:
    assert torchvision_ops.is_missing_nms(error) is expected


def test_other_failures_pass_through(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> ModuleType:
        raise RuntimeError("something else entirely")

    monkeypatch.setattr(importlib, "import_module", fail)
    monkeypatch.setattr(torchvision_ops, "_define_schemas", lambda: pytest.fail("must not be called"))
    with pytest.raises(RuntimeError, match="something else"):
        torchvision_ops.import_torchvision()


def test_half_imported_modules_are_cleared_before_the_second_try(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[bool] = []
    # restored by monkeypatch, so that this test does not unload the torchvision other tests use
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    sys.modules["torchvision.half"] = ModuleType("torchvision.half")
    answer = ModuleType("torchvision")

    def once(name: str) -> ModuleType:
        calls.append("torchvision.half" in sys.modules)
        if len(calls) == 1:
            raise RuntimeError(NMS_ERROR)
        return answer

    monkeypatch.setattr(importlib, "import_module", once)
    monkeypatch.setattr(torchvision_ops, "_define_schemas", lambda: None)
    assert torchvision_ops.import_torchvision() is answer
    assert calls == [True, False]
