"""Pictures of the page of ``rmatk infer --web`` for the documents: light, dark, on a phone.

    rmatk demo && python -m tools.page_screenshots rmatk-demo docs/images

It runs the demo's bundle on the demo's rendered video and photographs the page in headless Chromium.
"""

from __future__ import annotations

import argparse
import base64
import io
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from tools.browser import browser

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

_SIZES = {"light": (1280, 860), "dark": (1280, 860), "phone": (390, 844)}


def main() -> None:
    """Run and photograph."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("demo", type=Path, help="what rmatk demo has written")
    parser.add_argument("out", type=Path, help="where web-light.png, web-dark.png and web-phone.png go")
    args = parser.parse_args()
    video = args.demo / "video" / "conveyor.mp4"
    command = ["infer", str(args.demo / "bundle"), str(video), "--loop", "--web", "127.0.0.1:0"]
    with tempfile.TemporaryDirectory() as shots:
        process = subprocess.Popen(
            [sys.executable, "-m", "rmatk", *command, "--snapshots", shots], stderr=subprocess.PIPE, text=True
        )
        try:
            assert process.stderr is not None
            found = re.search(r"http://\S+", process.stderr.readline())
            assert found, process.stderr.read()
            photograph(found[0], args.out)
        finally:
            process.terminate()
            process.wait(10)


def photograph(url: str, out: Path) -> None:
    """Save the page at ``url`` in each of the forms."""
    out.mkdir(parents=True, exist_ok=True)
    with browser() as driver:
        for name, (width, height) in _SIZES.items():
            scheme = {"name": "prefers-color-scheme", "value": "dark" if name == "dark" else "light"}
            driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
            metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": name == "phone"}
            driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
            driver.get(url)
            time.sleep(4)
            save(driver, out / f"web-{name}.png")


def save(driver: Chrome, path: Path) -> None:
    """What is seen, in a palette of 256 colours: a quarter of the bytes."""
    shot = driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})
    picture = Image.open(io.BytesIO(base64.b64decode(shot["data"]))).convert("RGB")
    picture.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
