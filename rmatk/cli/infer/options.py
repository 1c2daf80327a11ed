"""The options of ``rmatk infer``, one annotated type each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer


def parse_size(text: str | None) -> tuple[int, int] | None:
    """``640x480`` as (width, height)."""
    if text is None:
        return None
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise typer.BadParameter(f"--size must be written as 640x480, not {text}")
    return int(width), int(height)


Bundle = Annotated[
    Path, typer.Argument(metavar="BUNDLE", help="A bundle written by rmatk export.", show_default=False)
]

Trust = Annotated[
    Path | None,
    typer.Option(
        metavar="KEYS",
        envvar="RMATK_TRUST",
        help="A public key (PEM) or a folder of them: the bundle must be signed by one (rmatk sign).",
    ),
]

# Where frames come from
# Hidden in the list of arguments, where Typer writes <list[str]>: the command's own text says what it takes
Inputs = Annotated[list[str] | None, typer.Argument(metavar="INPUT", hidden=True)]
Camera = Annotated[
    list[str] | None,
    typer.Option(
        metavar="[NAME=]URI",
        help="0, /dev/video0, csi://0, rtsp://..., http://..., - (JPEGs piped in), 'gst:PIPELINE' or "
        "test://; several are read at once.",
    ),
]
Region = Annotated[
    list[str] | None,
    typer.Option(
        metavar="[CAMERA:]NAME=X,Y,W,H",
        help="Classify this part of the picture, in pixels or percent; several: each by itself.",
    ),
]
Size = Annotated[
    str | None, typer.Option(metavar="WIDTHxHEIGHT", help="Ask the camera for pictures of this size.")
]
Rate = Annotated[
    float | None, typer.Option(metavar="FPS", help="Frames per second: of a camera, or at most of the rest.")
]
Flip = Annotated[
    str | None, typer.Option(metavar="horizontal|vertical", help="Mirror the picture, before --rotate.")
]
Rotate = Annotated[int, typer.Option(metavar="DEGREES", help="Rotate clockwise: 90, 180 or 270.")]
Loop = Annotated[bool, typer.Option("--loop", help="Repeat files when they end.")]
Start = Annotated[float | None, typer.Option(metavar="SECONDS", help="Start of the part of a video.")]
End = Annotated[float | None, typer.Option("--stop", metavar="SECONDS", help="End of the part of a video.")]
Stride = Annotated[int, typer.Option(metavar="N", help="Convert only every N-th frame of files.")]
Reconnect = Annotated[
    int | None, typer.Option(metavar="N", help="Give up a lost camera after N attempts; by default never.")
]
Timeout = Annotated[
    float, typer.Option(metavar="SECONDS", help="A camera without a picture for this long is lost.")
]

# What becomes of the results
Jsonl = Annotated[str | None, typer.Option(metavar="FILE", help="JSON lines; - is standard output.")]
Csv = Annotated[
    Path | None, typer.Option(metavar="FILE", help="A table for spreadsheets; - is standard output.")
]
Video = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Annotated video: .mp4, .mkv, .mov or .avi.")
]
Images = Annotated[Path | None, typer.Option(metavar="DIR", help="Annotated images.")]
Window = Annotated[bool, typer.Option("--window", help="A window with the annotated picture.")]
Webhook = Annotated[str | None, typer.Option(metavar="URL", help="Post results as JSON: https://host/path")]
Mqtt = Annotated[str | None, typer.Option(metavar="URL", help="Publish results: mqtt://user:pw@host/topic")]
WebhookHeader = Annotated[
    list[str] | None,
    typer.Option(
        metavar="'NAME: VALUE'", help="Sent to the webhook; $NAME in it is taken from the environment."
    ),
]
WebhookPicture = Annotated[
    bool, typer.Option("--webhook-picture", help="Post a form with the record and the picture as JPEG.")
]
MqttCa = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Certificates (PEM) to check an mqtts:// broker's by.")
]
MqttDiscovery = Annotated[
    str | None,
    typer.Option(metavar="PREFIX", help="Announce sensors to Home Assistant; its prefix is homeassistant."),
]
Publish = Annotated[
    Literal["change", "all"],
    typer.Option(metavar="change|all", help="Send to webhook and MQTT: changes of the label, or all."),
]
Web = Annotated[str | None, typer.Option(metavar="HOST:PORT", help="A page with the live picture.")]
WebToken = Annotated[
    str | None,
    typer.Option(
        metavar="TOKEN",
        envvar="RMATK_WEB_TOKEN",
        help="Access token; required unless it listens on localhost.",
    ),
]
Snapshots = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Where the page saves pictures: DIR/LABEL/*.jpg.")
]
Json = Annotated[bool, typer.Option("--json", help="Print the summary as one JSON object.")]

# How frames become results
TopK = Annotated[int, typer.Option(min=1, metavar="N", help="Labels per frame.")]
Threshold = Annotated[
    float | None,
    typer.Option(min=0, max=1, metavar="P", help="Reject below this probability; the bundle's own if unset."),
]
Threads = Annotated[
    int,
    typer.Option(
        min=0, metavar="N", help="Of ONNX Runtime on the CPU; 0: one per core that the CPU mask allows."
    ),
]
Every = Annotated[int, typer.Option(min=1, metavar="N", help="Classify every N-th frame.")]
Smooth = Annotated[
    float | None,
    typer.Option(metavar="SECONDS", help="Average over time; half-life. Restarts with each scene."),
]
MaxFrames = Annotated[int | None, typer.Option(min=1, metavar="N", help="Stop after this many results.")]
Duration = Annotated[float | None, typer.Option(metavar="SECONDS", help="Stop after this time.")]
Batch = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Frames at once; if unset 8 for files, 1 live.")
]

# What runs the model
BackendName = Literal["auto", "tensorrt", "ort-tensorrt", "cuda", "cpu"]
BackendOption = Annotated[
    BackendName, typer.Option(metavar="NAME", help="The engine: auto, tensorrt, ort-tensorrt, cuda, cpu.")
]
Precision = Annotated[
    Literal["fp32", "fp16", "int8"] | None,
    typer.Option(metavar="NAME", help="fp32, fp16 or int8; the bundle's first if unset."),
]
Resize = Annotated[
    Literal["exact", "fast"],
    typer.Option(
        metavar="exact|fast", help="How frames reach the network's size; rmatk parity measures fast."
    ),
]
AllowCpu = Annotated[bool, typer.Option("--allow-cpu", help="Accept the CPU where the GPU cannot start.")]
