"""The key of an engine: what it was built for, and why it does not fit a machine.

A TensorRT plan is compiled for one version of TensorRT and one GPU (NVIDIA/TensorRT #2177, #564, #2900). Used
elsewhere it fails late, runs slowly, or answers for another model where only the file name was compared. So
every engine carries its key beside it, and is compared with the machine and the bundle before it is touched.

What a level of compatibility relaxes:

    none                        the same GPU by name, the same TensorRT
    same_compute_capability     any GPU of the same compute capability
    ampere_plus                 any GPU of compute capability 8.0 or higher
    version_compatible          the same or a newer TensorRT of the same major version

TensorRT for RTX makes its kernels on loading: its engines are ``ampere_plus``, or built for compute
capabilities that were named, and then run on any GPU of one of these.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Literal

import msgspec

from rmatk_runtime.bundle.manifest import Input, Precision

Flavour = Literal["tensorrt", "tensorrt_rtx"]
HardwareLevel = Literal["none", "same_compute_capability", "ampere_plus"]

TITLES: dict[Flavour, str] = {"tensorrt": "TensorRT", "tensorrt_rtx": "TensorRT for RTX"}


class BatchProfile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The batch sizes that an engine takes, and the one it is fastest at."""

    min: int
    opt: int
    max: int

    def __post_init__(self) -> None:
        if not 1 <= self.min <= self.opt <= self.max:
            raise ValueError(f"a batch profile is MIN:OPT:MAX with 1 <= MIN <= OPT <= MAX, not {self}")

    def __str__(self) -> str:
        return f"{self.min}:{self.opt}:{self.max}"

    @classmethod
    def parse(cls, text: str) -> BatchProfile:
        """Read ``MIN:OPT:MAX``, or one number for a fixed batch.

        Raises:
            ValueError: anything else.
        """
        numbers = text.split(":")
        if len(numbers) not in (1, 3) or not all(number.isdecimal() for number in numbers):
            raise ValueError(f"a batch profile is MIN:OPT:MAX or one number, not {text!r}")
        return cls(*map(int, numbers * 3 if len(numbers) == 1 else numbers))


class EngineKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything that decides where an engine runs and what it computes.

    ``tensorrt``: the version as the module gives it; ``machine``: the processor (``aarch64``); ``gpu``: the
    GPU it was built on, None where it was built without one; ``compute_capabilities``: those it was built
    for (``"8.7"``), empty where TensorRT for RTX built for all that it supports; ``input``: of the graph;
    ``onnx_sha256``: of the graph's file, and of its external data.
    """

    flavour: Flavour
    tensorrt: str
    machine: str
    gpu: str | None
    compute_capabilities: tuple[str, ...]
    precision: Precision
    input: Input
    batch: BatchProfile
    onnx_sha256: str
    hardware_compatibility: HardwareLevel = "none"
    version_compatible: bool = False
    refittable: bool = False

    def stem(self) -> str:
        """A file name that can be read and is different for every key."""
        targets = "+".join(f"sm{target.replace('.', '')}" for target in self.compute_capabilities) or "any"
        version = re.sub(r"[^0-9A-Za-z.]", "-", self.tensorrt)
        kind = "trt" if self.flavour == "tensorrt" else "rtx"
        digest = hashlib.sha256(msgspec.json.encode(self)).hexdigest()[:8]
        batch = str(self.batch).replace(":", "-")
        return f"{self.input}-{self.precision}-b{batch}-{kind}{version}-{targets}-{digest}"


@dataclass(frozen=True)
class Machine:
    """This machine: processor, GPU and its compute capability (None without one), each TensorRT's version."""

    machine: str
    gpu: str | None
    compute_capability: str | None
    tensorrt: dict[Flavour, str]


def target(key: EngineKey) -> str:
    """What an engine runs on, for people: ``TensorRT 10.3.0, Orin (compute capability 8.7)``."""
    library = f"{TITLES[key.flavour]} {key.tensorrt}{' or newer' if key.version_compatible else ''}"
    targets = ", ".join(key.compute_capabilities)
    if key.hardware_compatibility == "ampere_plus":
        return f"{library}, compute capability 8.0 and newer"
    if key.flavour == "tensorrt_rtx" or key.hardware_compatibility == "same_compute_capability":
        return f"{library}, compute capability {targets}"
    return f"{library}, {key.gpu} (compute capability {targets})"


def differences(key: EngineKey, here: Machine) -> list[str]:
    """Why an engine does not fit this machine, each reason in words; empty where it fits."""
    reasons = [_version_reason(key, here), _gpu_reason(key, here)]
    if key.machine != here.machine:
        reasons.append(f"built on {key.machine}; this machine is {here.machine}")
    return [reason for reason in reasons if reason]


def _version_reason(key: EngineKey, here: Machine) -> str | None:
    title, found = TITLES[key.flavour], here.tensorrt.get(key.flavour)
    if found is None:
        return f"built with {title} {key.tensorrt}, which is not installed here or does not load"
    if found == key.tensorrt:
        return None
    built, now = version_numbers(key.tensorrt), version_numbers(found)
    if key.version_compatible and built[0] == now[0] and now >= built:
        return None
    return f"built with {title} {key.tensorrt}; this machine has {found}"


def _gpu_reason(key: EngineKey, here: Machine) -> str | None:
    if here.gpu is None or here.compute_capability is None:
        return "this machine has no GPU that NVIDIA's driver lists"
    targets = key.compute_capabilities
    wanted = f"built for compute capability {', '.join(targets)}"
    found = f"this machine's {here.gpu} has {here.compute_capability}"
    if key.hardware_compatibility == "ampere_plus":
        fits = version_numbers(here.compute_capability) >= (8, 0)
        return None if fits else f"built for compute capability 8.0 and newer; {found}"
    if here.compute_capability not in targets:
        return f"{wanted}; {found}"
    bound = key.flavour == "tensorrt" and key.hardware_compatibility == "none"
    if bound and key.gpu != here.gpu:
        return f"built on {key.gpu}; this machine has {here.gpu}"
    return None


def version_numbers(version: str) -> tuple[int, ...]:
    """The leading numbers of ``10.13.3.9.post1`` -> (10, 13, 3, 9)."""
    match = re.match(r"\d+(\.\d+)*", version)
    return tuple(map(int, match[0].split("."))) if match else (0,)
