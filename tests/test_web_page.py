"""The page as a person uses it: ``rmatk infer --web`` in a process of its own, and headless Chromium."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from PIL import Image
from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException

from tools.browser import browser, chromium

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(chromium() is None, reason="chromium and chromium-driver are not installed"),
]
TOKEN = "a-token-of-some-length"


@pytest.fixture(scope="module")
def started(
    tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[subprocess.Popen[str], str, Path]]:
    """A running ``rmatk infer``, the address it has printed, and its folder."""
    folder = tmp_path_factory.mktemp("page")
    shutil.copytree(tiny_bundle, folder / "bundle")
    arguments = ["infer", "bundle", "--camera", "test://160x120@10", "--web", "127.0.0.1:0"]
    process = subprocess.Popen(
        [sys.executable, "-c", "from rmatk.cli import main; main()", *arguments, "--snapshots", "shots"],
        cwd=folder,
        env={**os.environ, "RMATK_WEB_TOKEN": TOKEN},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        found = re.fullmatch(r"page: (http://127\.0\.0\.1:\d+/)\n", line)
        assert found, line + process.stderr.read()
        yield process, found[1], folder
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def page(started) -> Iterator[Page]:
    with browser() as driver:
        driver.get(started[1])
        yield Page(driver, started[2])


class Page:
    """The open page; ``until`` waits for what a person would wait for."""

    def __init__(self, driver, folder: Path) -> None:
        self.driver = driver
        self.folder = folder

    def find(self, css: str):
        return self.driver.find_element("css selector", css)

    def text(self, css: str) -> str:
        return self.find(css).text

    def texts(self, css: str) -> list[str]:
        return [element.text for element in self.driver.find_elements("css selector", css)]

    def until(self, condition, seconds: float = 30.0):
        end = time.monotonic() + seconds
        while True:
            with suppress(NoSuchElementException, StaleElementReferenceException):
                if found := condition():
                    return found
            assert time.monotonic() < end, f"{self.text('body')}\n{self.driver.get_log('browser')}"
            time.sleep(0.05)

    def picture(self) -> str:
        return hashlib.sha256(self.find("#picture").screenshot_as_png).hexdigest()

    def fill(self, css: str, text: str) -> None:
        self.find(css).clear()
        self.find(css).send_keys(text)


def test_the_token_opens_the_page(page: Page):
    assert page.driver.current_url.endswith("/login")
    page.fill("#token", "wrong")
    page.find("button").click()
    page.until(lambda: page.text("[role=alert]") == "That is not the token.")
    page.fill("#token", TOKEN)
    page.find("button").click()
    page.until(lambda: page.driver.current_url.endswith("/") and page.text("#state") == "live")
    assert page.driver.execute_script("return document.cookie") == ""


def test_the_picture_moves_and_predictions_come(page: Page):
    first = page.until(lambda: page.find("#picture").get_attribute("src") and page.picture())
    page.until(lambda: page.picture() != first)
    page.until(lambda: len(page.texts("#bars li")) == 3)
    assert page.text("#label") in ("blue dot", "green check", "red stripe")
    page.until(lambda: float(page.text("#rate")) > 0 and " ms" in page.text("#latency"))
    assert page.text("#source") == "test://160x120@10"
    size = page.driver.execute_script(
        "const p = document.getElementById('picture'); return [p.naturalWidth, p.naturalHeight]"
    )
    assert size == [160, 120]


def test_the_slider_rejects_at_once(page: Page):
    assert "rejected" not in page.find("#bars").get_attribute("class")
    slider = page.find("#slider")
    slider.send_keys("\ue010")  # End: to the right
    page.until(lambda: page.text("#label") == "unsure")
    assert page.text("#threshold-value") == "1.00"
    slider.send_keys("\ue011")  # Home
    page.until(lambda: page.text("#label") != "unsure")


def test_a_label_added_in_the_page_appears_in_the_predictions(page: Page):
    page.fill("#add-name", "red dot")
    page.fill("#add-prompt", "a photo of {}.")
    page.find("#add button").click()
    page.until(lambda: "red dot" in page.texts("#labels li span"))
    for name in ("blue dot", "green check"):  # so that it is among the three shown
        page.find(f"[aria-label='Remove {name}']").click()
        page.find("#remove button").click()
        page.until(lambda name=name: name not in page.texts("#labels li span"))
    page.until(lambda: "red dot" in " ".join(page.texts("#bars li")))


def test_a_label_is_renamed(page: Page):
    page.find("[aria-label='Rename red dot']").click()
    page.fill("#rename-name", "cherry")
    page.find("#rename button").click()
    page.until(lambda: "cherry" in " ".join(page.texts("#bars li")))


def test_a_mistake_is_told(page: Page):
    page.fill("#add-name", "cherry")
    page.find("#add button").click()
    page.until(lambda: "two labels called 'cherry'" in page.text("#message"))


def test_a_snapshot_lands_on_disk(page: Page):
    page.fill("#snapshot-label", "cherry")
    page.find("#snapshot button").click()
    page.until(lambda: "cherry: 1" in page.text("#counts"))
    (file,) = (page.folder / "shots" / "cherry").iterdir()
    assert Image.open(file).size == (160, 120)


def test_nothing_was_blocked_and_nothing_overflows_on_a_phone(page: Page):
    metrics = {"width": 360, "height": 780, "deviceScaleFactor": 1, "mobile": True}
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    assert page.driver.execute_script("return document.documentElement.scrollWidth") <= 360
    page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    log = page.driver.get_log("browser")
    complaints = [entry["message"] for entry in log if entry["level"] != "DEBUG"]
    unexpected = [text for text in complaints if not re.search(r"login - .* 403|labels/add - .* 422", text)]
    assert unexpected == []


def test_ctrl_c_ends_it_within_a_second_while_the_page_is_open(started, page: Page):
    process = started[0]
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 130
    assert time.monotonic() - began < 3.0  # one second, and what a busy machine adds
    page.until(lambda: "no connection" in page.text("#state"))
