"""Pictures of the page of ``rmatk infer --web`` for the documents: light, dark, on a phone.

    rmatk demo && python -m tools.page_screenshots rmatk-demo docs/images

It runs the demo's bundle on the demo's rendered video and photographs the page in headless Chromium.
"""

from __future__ import annotations

import argparse
import base64
import io
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from rmatk_runtime.frames import Frame
from rmatk_runtime.inference.classifier import Classifier
from rmatk_runtime.inference.loop import Stop, run
from rmatk_runtime.inference.summary import Tally
from rmatk_runtime.sources import Source, open_source
from rmatk_runtime.web.server import Address
from rmatk_runtime.web.sink import WebSink
from tools.browser import browser

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

_SIZES = {"light": (1040, 800), "dark": (1040, 800), "phone": (390, 1280)}


class Paced(Source):
    """A video that repeats, at the pace of a camera."""

    def __init__(self, video: Path) -> None:
        self._video = str(video)
        with open_source(self._video) as source:
            self.info = replace(source.info, name=video.name, frames=None, live=True)

    def __iter__(self) -> Iterator[Frame]:
        """Yield each frame when it is due."""
        pause = 1 / (self.info.rate or 15)
        while True:
            with open_source(self._video) as source:
                for frame in source:
                    time.sleep(pause)
                    yield replace(frame, source=self.info.name, captured=time.monotonic())


def main() -> None:
    """Run and photograph."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("demo", type=Path, help="what rmatk demo has written")
    parser.add_argument("out", type=Path, help="where web-light.png, web-dark.png and web-phone.png go")
    args = parser.parse_args()
    bundle, source, tally, stop = (
        args.demo / "bundle",
        Paced(args.demo / "video/conveyor.mp4"),
        Tally(),
        Stop(),
    )
    with (
        tempfile.TemporaryDirectory() as shots,
        Classifier.open(bundle, backend="cpu", top_k=4) as classifier,
    ):
        sink = WebSink(bundle, classifier, source, tally, Address("127.0.0.1", 0), snapshots=Path(shots))
        loop = threading.Thread(target=run, args=(source, classifier, [sink], None, stop, tally))
        loop.start()
        try:
            photograph(sink.url, args.out)
        finally:
            stop.ask("photographed")
            loop.join()


def photograph(url: str, out: Path) -> None:
    """Save the page at ``url`` in each of the forms."""
    out.mkdir(parents=True, exist_ok=True)
    with browser() as driver:
        driver.execute_cdp_cmd("Emulation.setScrollbarsHidden", {"hidden": True})
        for name, (width, height) in _SIZES.items():
            scheme = {"name": "prefers-color-scheme", "value": "dark" if name == "dark" else "light"}
            driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
            metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": name == "phone"}
            driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
            driver.get(url)
            time.sleep(4)
            save(driver, out / f"web-{name}.png")


def save(driver: Chrome, path: Path) -> None:
    """What is seen, in a palette of 128 colours: a fifth of the bytes."""
    shot = driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})
    picture = Image.open(io.BytesIO(base64.b64decode(shot["data"])), formats=("PNG",)).convert("RGB")
    picture.quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
