"""``rmatk infer``: a bundle on images, videos, cameras and streams."""

from __future__ import annotations

import typer

from rmatk.cli import app
from rmatk.cli.infer import options as opt
from rmatk.cli.infer.outputs import Outputs
from rmatk.cli.infer.page import Page
from rmatk.cli.infer.signals import EXIT_CODES, leave_at_once
from rmatk.cli.infer.summary import report
from rmatk.cli.logs import log_lines


@app.command()
def infer(
    bundle: opt.Bundle,
    inputs: opt.Inputs = None,
    camera: opt.Camera = None,
    region: opt.Region = None,
    size: opt.Size = None,
    rate: opt.Rate = None,
    flip: opt.Flip = None,
    rotate: opt.Rotate = 0,
    loop: opt.Loop = False,
    start: opt.Start = None,
    end: opt.End = None,
    stride: opt.Stride = 1,
    reconnect: opt.Reconnect = None,
    timeout: opt.Timeout = 10.0,
    jsonl: opt.Jsonl = None,
    csv: opt.Csv = None,
    video: opt.Video = None,
    images: opt.Images = None,
    window: opt.Window = False,
    webhook: opt.Webhook = None,
    webhook_header: opt.WebhookHeader = None,
    webhook_picture: opt.WebhookPicture = False,
    mqtt: opt.Mqtt = None,
    mqtt_ca: opt.MqttCa = None,
    mqtt_discovery: opt.MqttDiscovery = None,
    publish: opt.Publish = "change",
    web: opt.Web = None,
    web_token: opt.WebToken = None,
    snapshots: opt.Snapshots = None,
    top_k: opt.TopK = 3,
    threshold: opt.Threshold = None,
    smooth: opt.Smooth = None,
    every: opt.Every = 1,
    max_frames: opt.MaxFrames = None,
    duration: opt.Duration = None,
    batch: opt.Batch = None,
    backend: opt.BackendOption = "auto",
    precision: opt.Precision = None,
    allow_cpu: opt.AllowCpu = False,
    threads: opt.Threads = 0,
    trust: opt.Trust = None,
    resize: opt.Resize = "exact",
    as_json: opt.Json = False,
) -> None:
    """Classify images, videos or a camera with a bundle.

    Each INPUT is an image, a folder, a glob, a video, or a camera as for --camera.
    """
    uris = [*(inputs or ()), *(camera or ())]
    if not uris:
        raise typer.BadParameter("give images, folders or videos to look at, or --camera URI")
    if snapshots is not None and web is None:
        raise typer.BadParameter("--snapshots is a folder of the page's: add --web 127.0.0.1:8000")
    outputs = Outputs(
        jsonl=jsonl,
        csv=csv,
        video=video,
        images=images,
        window=window,
        webhook=webhook,
        webhook_headers=tuple(webhook_header or ()),
        webhook_picture=webhook_picture,
        mqtt=mqtt,
        mqtt_ca=mqtt_ca,
        mqtt_discovery=mqtt_discovery,
        publish=publish,
        page=None if web is None else Page(web, web_token, snapshots),
        as_json=as_json,
    )
    outputs.spare(uris)

    from rmatk.cli.infer.session import Session
    from rmatk_runtime.inference.classifier import Classifier
    from rmatk_runtime.inference.config import InferConfig
    from rmatk_runtime.inference.regions import Regions, parse_region, regions_path
    from rmatk_runtime.sources import SourceOptions, open_source

    config = InferConfig(
        backend=backend, precision=precision, allow_cpu=allow_cpu, top_k=top_k, threshold=threshold,
        batch=batch, every=every, max_frames=max_frames, duration=duration, smooth=smooth,
    )  # fmt: skip
    wishes = SourceOptions(
        size=opt.parse_size(size), rate=rate, flip=flip, rotate=rotate, loop=loop, start=start, stop=end,
        stride=stride, reconnect=reconnect, timeout=timeout,
    )  # fmt: skip
    engine = Classifier.open(
        bundle,
        backend=backend,
        precision=precision,
        batch=config.expected_size(uris),
        allow_cpu=allow_cpu,
        top_k=top_k,
        threshold=threshold,
        threads=threads,
        trust=trust,
        resizing=resize,
    )
    with (
        log_lines(),
        engine as classifier,
        open_source(*uris, options=wishes.reading(classifier.spec)) as source,
    ):
        regions = Regions(map(parse_region, region or ()), regions_path(bundle))
        summary = Session(bundle, classifier, source, config, regions).run(outputs)
    report(summary, bundle, classifier, uris, outputs)
    code = EXIT_CODES.get(summary.ended or "", 0)
    if classifier.hangs:  # threads of an engine that run on while the interpreter ends would abort it
        leave_at_once(code)
    raise typer.Exit(code)
