"""A real headless browser for tests: Chromium, driven by Selenium.

    with headless(width=1280) as browser:
        browser.get(path.as_uri())

Debian's packages chromium and chromium-driver are installed for it where that is allowed
(tests/debian.py). The browser seeks no network of its own, and keeps its profile in a folder that
is removed.

    python tests/browser.py PAGE.html PICTURE.png [WIDTH]
    # a picture of a whole page, to look at
"""

from __future__ import annotations

import base64
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from debian import install
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

PACKAGES = ("chromium", "chromium-driver")
PROGRAMS = ("chromium", "chromedriver")
ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
)


def _missing() -> list[str]:
    return [name for name in PROGRAMS if shutil.which(name) is None]


@contextmanager
def headless(width: int = 1280, height: int = 900) -> Iterator[webdriver.Chrome]:
    """A browser whose page is ``width`` CSS pixels wide, and which remembers what pages write to
    its console.

    Raises CannotRun where there is none, and none can be installed.
    """
    install(PACKAGES, _missing)
    profile = tempfile.mkdtemp(prefix="masf-browser-")
    options = webdriver.ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    for argument in (*ARGUMENTS, f"--user-data-dir={profile}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options, Service(str(shutil.which("chromedriver"))))
    try:
        resize(browser, width, height)
        yield browser
    finally:
        browser.quit()
        shutil.rmtree(profile, ignore_errors=True)


def resize(browser: webdriver.Chrome, width: int, height: int = 900) -> None:
    """Gives the page another width, also narrower than a window may be."""
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def console(browser: webdriver.Chrome) -> list[dict[str, Any]]:
    """What pages wrote to the console since the last call."""
    return browser.get_log("browser")


def picture(browser: webdriver.Chrome, path: Path) -> None:
    """A picture of the whole page."""
    taken = browser.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True})
    path.write_bytes(base64.b64decode(taken["data"]))


def main() -> None:
    """Takes a picture of the page in the arguments."""
    page, target, *width = sys.argv[1:]
    with headless(int(width[0]) if width else 1280) as browser:
        browser.get(Path(page).resolve().as_uri())
        for entry in console(browser):
            print(entry["level"], entry["message"])
        picture(browser, Path(target))


if __name__ == "__main__":
    main()
