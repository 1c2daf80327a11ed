"""The options of ``rmatk export``, one annotated type each, and which may be combined."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar, get_args

import typer

from rmatk.cli.given import flags, given

if TYPE_CHECKING:
    from rmatk_runtime.bundle.manifest import Precision
    from rmatk_runtime.tensorrt.key import BatchProfile, Flavour, HardwareLevel

SourceArgument = Annotated[
    Path,
    typer.Argument(
        metavar="SOURCE",
        help="A run, written by rmatk train; or a bundle, with --trt, --triton or --deepstream.",
        show_default=False,
    ),
]
Precisions = Annotated[
    list[str] | None,
    typer.Option(
        metavar="fp32,fp16,int8",
        help="One or more. Of a run: the graphs, the first being the default on a device. "
        "Of a bundle: which of its graphs become engines; its first if unset. A server gets the first.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]

# From a run
Out = Annotated[
    Path | None, typer.Option("--out", "-o", metavar="BUNDLE", help="The bundle folder to write.")
]
Data = Annotated[
    Path | None, typer.Option(metavar="DATA", help="The training photos' folder, if they were moved.")
]
Golden = Annotated[
    str,
    typer.Option(
        metavar="N|none|rendered",
        help="How many of your training photos the bundle contains, for checks on the device; none; or "
        "rendered pictures instead.",
    ),
]
Pixels = Annotated[
    bool,
    typer.Option("--pixels", help="Also graphs (engines) that take uint8 pixels, normalisation inside."),
]

# With --trt
Trt = Annotated[
    bool, typer.Option("--trt", help="Build TensorRT engines, on the machine that will run them.")
]
FlavourName = Annotated[
    str, typer.Option(metavar="NAME", help="auto, tensorrt, or tensorrt_rtx for desktop GPUs.")
]
Batch = Annotated[
    str,
    typer.Option(
        metavar="MIN:OPT:MAX",
        help="Batch sizes an engine takes, and the one it is best at. Triton: the largest and the preferred; "
        "DeepStream: OPT.",
    ),
]
Workspace = Annotated[
    int | None, typer.Option(min=1, metavar="MIB", help="Memory per layer; half of what is free if unset.")
]
TimingCache = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Keeps measurements: the next build is quicker.")
]
Refit = Annotated[bool, typer.Option("--refit", help="Weights can be exchanged later; may run slower.")]
HardwareCompat = Annotated[
    str,
    typer.Option(
        metavar="LEVEL", help="none, same_compute_capability or ampere_plus: which other GPUs it fits."
    ),
]
VersionCompat = Annotated[
    bool, typer.Option("--version-compat", help="Also runs on newer TensorRT of the same major version.")
]
ComputeCapability = Annotated[
    list[str] | None,
    typer.Option(
        metavar="N", help="For TensorRT for RTX: build for 89 (8.9), say, without a GPU; repeatable."
    ),
]

# For servers
TritonFolder = Annotated[
    Path | None, typer.Option("--triton", metavar="DIR", help="Write a model repository for Triton.")
]
TritonBackend = Annotated[
    str,
    typer.Option(
        metavar="NAME", help="onnxruntime, or tensorrt: the bundle's engine on pixels, for this GPU."
    ),
]
DeepStream = Annotated[
    Path | None,
    typer.Option("--deepstream", metavar="DIR", help="Write a classifier for DeepStream's nvinfer."),
]
Name = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="The models' name in Triton; the bundle's folder name if unset."),
]

_RUN_ONLY = ("out", "data", "golden")
_TRITON_ONLY = ("name", "triton_backend")
_TRT_ONLY = (
    "flavour",
    "workspace",
    "timing_cache",
    "refit",
    "hardware_compat",
    "version_compat",
    "compute_capability",
    "trust",
)
_Known = TypeVar("_Known", bound=str)


def check_together(context: typer.Context, source: Path) -> None:
    """Refuse options that make no sense with the others.

    Raises:
        BadParameter: names them.
        RunError: there is no such run or bundle.
    """
    from rmatk_runtime.bundle.manifest import MANIFEST
    from rmatk_runtime.errors import RunError

    typed = given(context)
    bundle, trt, triton = (source / MANIFEST).is_file(), "trt" in typed, "triton" in typed
    serving = triton or "deepstream" in typed
    if not source.exists():
        raise RunError(f"no such run or bundle: {source}", "make a run: rmatk train DATA -o RUN")
    if bundle and not (trt or serving):
        raise typer.BadParameter(
            f"{source} is a bundle already; --trt builds engines from it, --triton and --deepstream write "
            "what servers read"
        )
    if not bundle and "out" not in typed:
        raise typer.BadParameter("a run becomes a bundle: say where with -o BUNDLE")
    if bundle and (wrong := [name for name in typed if name in _RUN_ONLY]):
        raise typer.BadParameter(f"{source} is a bundle; {flags(wrong)} can be given for a run only")
    if not trt and (wrong := [name for name in typed if name in _TRT_ONLY]):
        raise typer.BadParameter(f"{flags(wrong)} can be given with --trt only")
    if "batch" in typed and not (trt or serving):
        raise typer.BadParameter("--batch can be given with --trt, --triton or --deepstream only")
    if "pixels" in typed and bundle and not trt:
        raise typer.BadParameter(
            "--pixels can be given for a run or with --trt only; servers get pixels anyway"
        )
    if not triton and (wrong := [name for name in typed if name in _TRITON_ONLY]):
        raise typer.BadParameter(f"{flags(wrong)} can be given with --triton only")


def parse_precisions(names: list[str] | None) -> tuple[Precision, ...]:
    """The precisions asked for, each once, in the order given."""
    from rmatk_runtime.bundle.manifest import Precision

    given = (name.strip() for text in names or [] for name in text.split(","))
    return tuple(_one_of("--precision", name, get_args(Precision)) for name in dict.fromkeys(given))


def parse_golden(text: str) -> int | Literal["rendered"] | None:
    """How many photos are in the golden set, or ``rendered``; None for none."""
    if text == "none":
        return None
    if text == "rendered":
        return "rendered"
    if not (text.isdecimal() and int(text) > 0):
        raise typer.BadParameter(f"--golden takes a number above 0, none or rendered, not {text!r}")
    return int(text)


def parse_batch(text: str) -> BatchProfile:
    """``1:4:8``, or one number."""
    from rmatk_runtime.tensorrt.key import BatchProfile

    try:
        return BatchProfile.parse(text)
    except ValueError as error:
        raise typer.BadParameter(f"--batch: {error}") from error


def parse_flavour(name: str) -> Flavour | Literal["auto"]:
    """Which TensorRT."""
    from rmatk_runtime.tensorrt.key import Flavour

    return _one_of("--flavour", name, ("auto", *get_args(Flavour)))


def parse_triton_backend(name: str) -> Literal["onnxruntime", "tensorrt"]:
    """What is to run the encoder in Triton."""
    return _one_of("--triton-backend", name, ("onnxruntime", "tensorrt"))


def parse_hardware(level: str) -> HardwareLevel:
    """Which other GPUs an engine fits."""
    from rmatk_runtime.tensorrt.key import HardwareLevel

    return _one_of("--hardware-compat", level, get_args(HardwareLevel))


def parse_capabilities(numbers: list[str] | None) -> tuple[str, ...]:
    """``89`` or ``8.9`` -> ``8.9``, each once, in ascending order."""
    digits = {number.replace(".", "") for number in numbers or []}
    if wrong := [text for text in digits if not (text.isdecimal() and len(text) in (2, 3))]:
        raise typer.BadParameter(f"--compute-capability takes 89 or 8.9, say, not {wrong[0]!r}")
    return tuple(f"{text[:-1]}.{text[-1]}" for text in sorted(digits, key=int))


def _one_of(flag: str, value: str, known: tuple[_Known, ...]) -> _Known:
    for name in known:
        if name == value:
            return name
    raise typer.BadParameter(f"{flag} takes {', '.join(known)}, not {value!r}")
