"""Headless Chromium that talks to nobody but the page under test; for the tests and for screenshots."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1280,900",
)


def chromium() -> tuple[str, str] | None:
    """Debian's Chromium and its driver, or None where one of them is not installed."""
    found = shutil.which("chromium"), shutil.which("chromedriver")
    return (found[0], found[1]) if found[0] and found[1] else None


@contextmanager
def browser() -> Iterator[Chrome]:
    """A browser with a profile of its own, gone afterwards. Raises RuntimeError where it is not installed."""
    from selenium.webdriver import Chrome, ChromeOptions, ChromeService

    installed = chromium()
    if installed is None:
        raise RuntimeError("apt-get install chromium chromium-driver")
    options = ChromeOptions()
    options.binary_location = installed[0]
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with tempfile.TemporaryDirectory() as profile:
        for flag in (*_FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        driver = Chrome(options=options, service=ChromeService(installed[1]))
        try:
            yield driver
        finally:
            driver.quit()
