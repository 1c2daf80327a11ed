"""The API for the page and other programs: everything under ``/v1``, ``/healthz`` and ``/metrics``."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from rmatk_runtime.arrays import UInt8
from rmatk_runtime.errors import DataError, LabelError, RmatkError, StorageError
from rmatk_runtime.frames import Prediction
from rmatk_runtime.inference.classifier import Classifier
from rmatk_runtime.inference.regions import Regions
from rmatk_runtime.inference.summary import Tally
from rmatk_runtime.labels.editor import (
    Edited,
    add_label,
    keep_threshold,
    read_labels,
    remove_label,
    rename_label,
)
from rmatk_runtime.pictures.decode import Decoding, decode_image
from rmatk_runtime.pictures.preprocess import resize
from rmatk_runtime.web.limits import MOST_PIXELS, Turns
from rmatk_runtime.web.live import Live
from rmatk_runtime.web.meter import Meter
from rmatk_runtime.web.snapshots import Snapshots

WAIT = 2.0
"""Seconds that ``/v1/frame`` waits for the next result."""
_DECODING = Decoding(pixels=MOST_PIXELS)
_STATUS = {LabelError: 422, DataError: 400, StorageError: 507}

T = TypeVar("T")


class AddLabel(msgspec.Struct, forbid_unknown_fields=True):
    """``prompts``: with ``{}`` for the name; none: the bundle's own."""

    name: str
    prompts: tuple[str, ...] = ()


class RemoveLabel(msgspec.Struct, forbid_unknown_fields=True):
    """The label to take out."""

    name: str


class RenameLabel(msgspec.Struct, forbid_unknown_fields=True):
    """A label's old and new name."""

    old: str
    new: str


class SetThreshold(msgspec.Struct, forbid_unknown_fields=True):
    """Reject below ``value``, at once and in every output; ``keep``: write it into the bundle as well."""

    value: Annotated[float, msgspec.Meta(ge=0, le=1)]
    keep: bool = False


class TakeSnapshot(msgspec.Struct, forbid_unknown_fields=True):
    """Save the current picture under a label, one of the bundle's or a new one."""

    label: str
    camera: str | None = None


@dataclass(frozen=True)
class Api:
    """The handlers, over what the loop and they share; ``snapshots``: None where no folder was given."""

    bundle: Path
    classifier: Classifier
    live: Live
    meter: Meter
    snapshots: Snapshots | None
    regions: Regions
    turns: Turns = field(default_factory=Turns)

    def routes(self) -> list[Route]:
        """Everything under its path."""
        return [
            Route("/healthz", self.health),
            Route("/metrics", self.metrics),
            Route("/v1/status", self.status),
            Route("/v1/frame", self.frame),
            Route("/v1/classify", self.classify, methods=["POST"]),
            Route("/v1/labels", self.labels),
            Route("/v1/labels/add", self.add, methods=["POST"]),
            Route("/v1/labels/remove", self.remove, methods=["POST"]),
            Route("/v1/labels/rename", self.rename, methods=["POST"]),
            Route("/v1/threshold", self.threshold, methods=["POST"]),
            Route("/v1/snapshots", self.snapshot, methods=["POST"]),
        ]

    async def health(self, request: Request) -> Response:
        """200 while results come, 503 with the reason otherwise."""
        trouble = self.meter.trouble()
        return json_response({"ok": trouble is None, "reason": trouble}, 200 if trouble is None else 503)

    async def metrics(self, request: Request) -> Response:
        """Prometheus' text format."""
        return Response(self.meter.prometheus(), media_type="text/plain; version=0.0.4")

    async def status(self, request: Request) -> Response:
        """How the run goes, and what the page can do."""
        meter, answers = self.meter, self.classifier.head
        return json_response(
            {
                "source": meter.source.info.name,
                "state": meter.state().value,
                "trouble": meter.trouble(),
                "engine": self.classifier.backend.name,
                "frames": meter.tally.frames,
                "dropped": meter.tally.dropped,
                "skipped": meter.tally.damaged,
                "rate": round(meter.rate(), 2),
                "latency_ms": meter.tally.latency.percentiles(),
                "cameras": [self._camera(name) for name in meter.source.cameras],
                "regions": self.regions.listed(),
                "labels": answers.classes.names,
                "threshold": answers.reject_below,
                "kept_threshold": answers.decision.reject_threshold,
                "labels_changed": answers.decision.labels_changed,
                "snapshots": None
                if self.snapshots is None
                else await asyncio.to_thread(self.snapshots.counts),
            }
        )

    def _camera(self, name: str) -> dict[str, Any]:
        """How one camera does; the empty name is that of one alone."""
        source, tally = self.meter.source.cameras[name], self.meter.tally
        tally = tally.cameras.get(name, Tally()) if name else tally
        return {
            "name": name,
            "address": source.info.name,
            "state": source.state.value,
            "trouble": self.meter.trouble_of(name),
            "frames": tally.frames,
            "dropped": tally.dropped,
            "frozen": round(tally.frozen, 1),
            "rate": round(self.meter.rate(name), 2),
            "latency_ms": tally.latency.percentiles(),
        }

    async def frame(self, request: Request) -> Response:
        """The first picture after ``?after=NUMBER``: JPEG, its record in ``X-Rmatk-Result``; 204: none yet.

        ``&camera=NAME``: of this camera; ``&wait=SECONDS``: for at most so long.
        """
        asked = request.query_params
        try:
            number, wait = int(asked.get("after", "0")), min(WAIT, float(asked.get("wait", WAIT)))
        except ValueError:
            raise HTTPException(400, "?after= takes the number of the result shown last") from None
        shown = await self.live.after(number, wait, asked.get("camera"))
        if shown is None:
            return Response(status_code=204)
        headers = {"X-Rmatk-Result": json.dumps(shown.as_record())}  # ASCII, as a header must be
        return Response(await self.live.jpeg(shown), media_type="image/jpeg", headers=headers)

    async def classify(self, request: Request) -> Response:
        """The prediction for a picture: its bytes, or the field ``image`` of a form."""
        status = 500
        try:
            data = await _picture(request)
            pixels = await self.turns.run(lambda: self._prepare(data))
            (prediction,) = await asyncio.to_thread(self.classifier.classify, [pixels])
            status = 200
        except HTTPException as error:
            status = error.status_code
            raise
        except RmatkError as error:
            status = status_of(error)
            raise
        finally:
            self.meter.requests.labels(str(status)).inc()
        return json_response(_record(prediction))

    def _prepare(self, data: bytes) -> UInt8:
        """A picture at the network's size, (H, W, 3) uint8 RGB."""
        spec = self.classifier.spec
        decoding = msgspec.structs.replace(_DECODING, stretch=spec.stretch)
        return resize(decode_image(data, "the picture", decoding), spec)

    async def labels(self, request: Request) -> Response:
        """The labels in the bundle and the prompts they were made from."""
        return json_response({"labels": await asyncio.to_thread(read_labels, self.bundle)})

    async def add(self, request: Request) -> Response:
        """Add a label; the running classifier takes it over."""
        wanted = await json_body(request, AddLabel)
        return await _edited(lambda: add_label(self.bundle, wanted.name, wanted.prompts))

    async def remove(self, request: Request) -> Response:
        """Remove a label."""
        wanted = await json_body(request, RemoveLabel)
        return await _edited(lambda: remove_label(self.bundle, wanted.name))

    async def rename(self, request: Request) -> Response:
        """Rename a label."""
        wanted = await json_body(request, RenameLabel)
        return await _edited(lambda: rename_label(self.bundle, wanted.old, wanted.new))

    async def threshold(self, request: Request) -> Response:
        """Change the running classifier's reject threshold."""
        wanted = await json_body(request, SetThreshold)
        self.classifier.set_threshold(wanted.value)
        if wanted.keep:
            await asyncio.to_thread(keep_threshold, self.bundle, wanted.value)
        return json_response({"threshold": wanted.value, "kept": wanted.keep})

    async def snapshot(self, request: Request) -> Response:
        """Keep the newest picture, every pixel of it."""
        wanted = await json_body(request, TakeSnapshot)
        snapshots, newest = self.snapshots, self.live.newest(wanted.camera)
        if snapshots is None:
            raise HTTPException(409, "no folder for snapshots was given: start with --snapshots DIR")
        if newest is None:
            raise HTTPException(409, "there is no picture yet")
        path = await asyncio.to_thread(snapshots.save, newest.frame.image, wanted.label)
        return json_response({"file": str(path), "snapshots": await asyncio.to_thread(snapshots.counts)})


def status_of(error: RmatkError) -> int:
    """The HTTP status of a named error."""
    return next((status for kind, status in _STATUS.items() if isinstance(error, kind)), 500)


async def named_error(request: Request, error: Exception) -> Response:
    """A named error as JSON, as it would be printed."""
    assert isinstance(error, RmatkError)
    return json_response({"error": error.message, "hint": error.hint}, status_of(error))


async def http_error(request: Request, error: Exception) -> Response:
    """A refusal as JSON."""
    assert isinstance(error, HTTPException)
    return json_response({"error": error.detail, "hint": None}, error.status_code)


def json_response(value: Any, status: int = 200) -> Response:
    """Anything as JSON."""
    return Response(msgspec.json.encode(value), status, media_type="application/json")


def _record(prediction: Prediction) -> dict[str, Any]:
    return {
        "label": prediction.label,
        "rejected": prediction.rejected,
        "top": [{"label": s.label, "probability": round(s.probability, 4)} for s in prediction.top],
    }


async def _edited(edit: Callable[[], Edited]) -> Response:
    return json_response(await asyncio.to_thread(edit))


async def json_body(request: Request, kind: type[T]) -> T:
    """A JSON body; the type it must be sent as is one that no form of another site can send."""
    if _content_type(request) != "application/json":
        raise HTTPException(415, "send the body as application/json")
    try:
        return msgspec.json.decode(await request.body(), type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise HTTPException(422, f"the body does not fit: {error}") from None


async def _picture(request: Request) -> bytes:
    """The bytes of the picture sent."""
    kind = _content_type(request)
    if kind.startswith("image/") or kind == "application/octet-stream":
        return await request.body()
    if kind != "multipart/form-data":
        raise HTTPException(415, "send a picture as image/... or in the field 'image' of multipart/form-data")
    async with request.form(max_files=1) as form:
        picture = form.get("image")
        if picture is None or isinstance(picture, str):
            raise HTTPException(400, "the form has no file in the field 'image'")
        return await picture.read()


def _content_type(request: Request) -> str:
    return request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
