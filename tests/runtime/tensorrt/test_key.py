"""What an engine was built for against the machine: every reason in words, every relaxation by itself."""

from __future__ import annotations

import msgspec
import pytest

from rmatk_runtime.tensorrt.key import BatchProfile, EngineKey, Machine, differences

ORIN = Machine("aarch64", "Orin", "8.7", {"tensorrt": "10.7.0"})
DESKTOP = Machine(
    "x86_64", "NVIDIA GeForce RTX 4090", "8.9", {"tensorrt_rtx": "1.7.1", "tensorrt": "10.13.0"}
)


def key(**changes: object) -> EngineKey:
    built_on_orin = EngineKey(
        flavour="tensorrt",
        tensorrt="10.7.0",
        machine="aarch64",
        gpu="Orin",
        compute_capabilities=("8.7",),
        precision="fp16",
        input="images",
        batch=BatchProfile(1, 2, 8),
        onnx_sha256="0" * 64,
    )
    return msgspec.structs.replace(built_on_orin, **changes)


def on_desktop(**changes: object) -> EngineKey:
    return key(
        machine="x86_64", gpu=DESKTOP.gpu, compute_capabilities=("8.9",), tensorrt="10.13.0", **changes
    )


def test_an_engine_fits_the_machine_it_was_built_on():
    assert differences(key(), ORIN) == [] and differences(on_desktop(), DESKTOP) == []


@pytest.mark.parametrize(
    ("engine", "here", "reason"),
    [
        (key(tensorrt="10.3.0"), ORIN, "built with TensorRT 10.3.0; this machine has 10.7.0"),
        (key(tensorrt="10.7.1"), ORIN, "built with TensorRT 10.7.1; this machine has 10.7.0"),
        (key(gpu="Xavier"), ORIN, "built on Xavier; this machine has Orin"),
        (
            key(compute_capabilities=("7.2",)),
            ORIN,
            "built for compute capability 7.2; this machine's Orin has 8.7",
        ),
        (key(machine="x86_64"), ORIN, "built on x86_64; this machine is aarch64"),
        (
            key(flavour="tensorrt_rtx", tensorrt="1.7"),
            ORIN,
            "built with TensorRT for RTX 1.7, which is not installed here or does not load",
        ),
        (
            key(),
            Machine("aarch64", None, None, ORIN.tensorrt),
            "this machine has no GPU that NVIDIA's driver lists",
        ),
    ],
)
def test_each_difference_is_named(engine: EngineKey, here: Machine, reason: str):
    assert differences(engine, here) == [reason]


def test_all_differences_are_named_at_once():
    assert len(differences(key(), DESKTOP)) == 3


@pytest.mark.parametrize(
    ("built", "here", "fits"),
    [
        ("10.3.0", "10.7.0", True),
        ("10.7.0", "10.7.0", True),
        ("10.8.0", "10.7.0", False),  # newer plans do not run on older libraries
        ("9.3.0", "10.7.0", False),
    ],
)
def test_version_compatible_engines_run_on_newer_ones_of_the_same_major(built: str, here: str, fits: bool):
    machine = Machine("aarch64", "Orin", "8.7", {"tensorrt": here})
    assert (differences(key(tensorrt=built, version_compatible=True), machine) == []) is fits


def test_hardware_compatibility_lets_other_gpus_in():
    other = Machine("x86_64", "NVIDIA L4", "8.9", {"tensorrt": "10.13.0"})
    newer = Machine("x86_64", "NVIDIA H100", "9.0", {"tensorrt": "10.13.0"})
    older = Machine("x86_64", "NVIDIA T4", "7.5", {"tensorrt": "10.13.0"})
    assert [bool(differences(on_desktop(), here)) for here in (other, newer, older)] == [True, True, True]
    same = on_desktop(hardware_compatibility="same_compute_capability")
    assert [bool(differences(same, here)) for here in (other, newer, older)] == [False, True, True]
    ampere = on_desktop(hardware_compatibility="ampere_plus")
    assert [bool(differences(ampere, here)) for here in (other, newer, older)] == [False, False, True]


def test_rtx_engines_go_by_compute_capability_alone():
    built = on_desktop(flavour="tensorrt_rtx")
    built = msgspec.structs.replace(built, tensorrt="1.7.1", gpu=None, compute_capabilities=("8.6", "8.9"))
    assert differences(built, DESKTOP) == []
    assert differences(msgspec.structs.replace(built, gpu="NVIDIA GeForce RTX 3090"), DESKTOP) == []
    blackwell = Machine("x86_64", "NVIDIA GeForce RTX 5090", "12.0", DESKTOP.tensorrt)
    assert differences(built, blackwell) == [
        "built for compute capability 8.6, 8.9; this machine's NVIDIA GeForce RTX 5090 has 12.0"
    ]


def test_stems_can_be_read_and_differ_with_every_field():
    assert key().stem().startswith("images-fp16-b1-2-8-trt10.7.0-sm87-")
    changes = [
        {"tensorrt": "10.7.1"},
        {"machine": "x86_64"},
        {"gpu": "Xavier"},
        {"compute_capabilities": ("8.7", "8.9")},
        {"precision": "int8"},
        {"input": "pixels"},
        {"batch": BatchProfile(1, 4, 8)},
        {"onnx_sha256": "1" * 64},
        {"hardware_compatibility": "ampere_plus"},
        {"version_compatible": True},
        {"refittable": True},
        {"flavour": "tensorrt_rtx"},
    ]
    assert {field for change in changes for field in change} == set(EngineKey.__struct_fields__)
    assert len({key(**change).stem() for change in [{}, *changes]}) == len(changes) + 1
    assert all("/" not in key(tensorrt=text).stem() for text in ("10.3/..", "10 3"))


def test_batch_profiles():
    assert BatchProfile.parse("1:4:8") == BatchProfile(1, 4, 8)
    assert BatchProfile.parse("4") == BatchProfile(4, 4, 4) and str(BatchProfile(4, 4, 4)) == "4:4:4"
    for wrong in ("", "0", "1:2", "8:4:1", "1:9:8", "a:b:c", "1:4:8:9", "-1:2:3", "1:4:"):
        with pytest.raises(ValueError, match="batch profile"):
            BatchProfile.parse(wrong)
