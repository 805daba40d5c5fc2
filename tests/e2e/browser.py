"""A person in front of the Prefect UI: Debian's Chromium, headless, looking at what a page shows and clicking on it.

The rule: nothing waits for a time, only for something to be seen; whatever a test leaves with, its last page is kept.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from tests.e2e.conftest import SECONDS

WIDTH, HEIGHT, MOST_HEIGHT = 1400, 1600, 9000
ARGUMENTS = ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--hide-scrollbars")
AT_REST = """
    return document.getAnimations().every(each =>
        each.playState !== 'running' || each.effect.getComputedTiming().iterations === Infinity
    ) && [...document.images].every(each => each.complete)
"""
LABELS = """
    return [...document.querySelectorAll('label')].filter(each =>
        each.textContent.trim().replace(/ \\(Optional\\)$/, '') === arguments[0]
    )
"""
TALL = "return Math.max(...[...document.querySelectorAll('*')].map(each => each.scrollHeight))"
Found = Callable[[], Any]


class Browser:
    """One window.

    Attributes:
        screenshots: Where `keep` leaves what the window shows.
    """

    def __init__(self, driver: webdriver.Chrome, base: str, screenshots: Path) -> None:
        """Look at the UI below `base`."""
        self.driver, self.base, self.screenshots = driver, base, screenshots

    def open(self, path: str, auth: str = "") -> None:
        """Go to a page of the UI; with `auth`, log in on the way."""
        self.driver.get(f"{self.base}{path}")
        if auth:
            self.wait("login", lambda: "/login" in self.driver.current_url and self.all("input"))[0].send_keys(
                auth, Keys.ENTER
            )
            self.wait("page behind the login", lambda: "/login" not in self.driver.current_url)

    def wait(self, what: str, found: Found) -> Any:
        """Return what `found` returns, as soon as that is something; a page may change under it."""
        waiting = WebDriverWait(self.driver, SECONDS, 0.1, ignored_exceptions=[StaleElementReferenceException])
        return waiting.until(lambda _: found(), f"no {what} on {self.driver.current_url}")

    def all(self, selector: str) -> list[WebElement]:
        """Return what a CSS selector finds."""
        found: list[WebElement] = self.driver.find_elements(By.CSS_SELECTOR, selector)
        return found

    def text(self) -> str:
        """Return what the page says."""
        return str(self.driver.find_element(By.TAG_NAME, "body").text)

    def see(self, *texts: str) -> None:
        """Wait until the page says all of it."""
        for text in texts:
            self.wait(repr(text), lambda text=text: text in self.text())

    def click(self, selector: str, text: str = "", nth: int = 0) -> None:
        """Click on the nth of what a selector finds and what has `text` as a line."""

        def clicked() -> bool:
            found = [
                each
                for each in self.all(selector)
                if (not text or text in each.text.splitlines()) and each.is_displayed()
            ]
            if len(found) <= max(nth, 0):
                return False
            found[nth].click()
            return True

        self.wait(f"{selector} {text}", clicked)

    # Forms

    def labels(self, label: str) -> list[WebElement]:
        """Return the labels that say this, wherever in the form."""
        found: list[WebElement] = self.driver.execute_script(LABELS, label)
        return found

    def write(self, label: str, text: str, nth: int = 0) -> None:
        """Write into the nth field of this label, over what stands there."""
        self.wait(f"{nth + 1} fields {label}", lambda: len(self.labels(label)) > nth)
        place = self.driver.find_element(By.ID, self.labels(label)[nth].get_attribute("for") or "")
        place.send_keys(Keys.CONTROL, "a")
        place.send_keys(Keys.DELETE, text)
        self.wait(f"{text!r} in {label}", lambda: place.get_attribute("value") == text)

    def choose(self, label: str, option: str) -> None:
        """Choose from the last list of this label."""
        self.click(f"[aria-label='Select {label}']", nth=-1)
        self.click("[role=option]", option)
        self.wait(f"{option} chosen", lambda: self.all(f"[aria-label='Select {label}']")[-1].text.strip() == option)

    def submit(self) -> None:
        """Submit a form, and return when it has led elsewhere."""
        here = self.driver.current_url
        self.click("button", "Submit")
        self.wait("page that the form leads to", lambda: self.driver.current_url != here)

    def add(self, label: str, nth: int = 0) -> WebElement:
        """Add an item to the nth list of this label, and return the part of the form that the list is."""
        part: WebElement = self.labels(label)[nth].find_element(
            By.XPATH, "./ancestor::div[contains(@class,'group')][1]"
        )
        before = len(part.find_elements(By.CSS_SELECTOR, "input, textarea"))
        part.find_elements(By.XPATH, ".//button[normalize-space()='Add item']")[-1].click()
        self.wait(f"new item of {label}", lambda: len(part.find_elements(By.CSS_SELECTOR, "input, textarea")) > before)
        return part

    # Pictures

    def keep(self, name: str) -> None:
        """Keep what the whole page shows, when nothing in it moves any more."""
        self.driver.set_window_size(WIDTH, min(self.driver.execute_script(TALL) + 120, MOST_HEIGHT))
        self.wait("page at rest", lambda: self.driver.execute_script(AT_REST))
        self.driver.save_screenshot(str(self.screenshots / f"{name}.png"))
        self.driver.set_window_size(WIDTH, HEIGHT)


@contextmanager
def browser(base: str, screenshots: Path) -> Iterator[Browser]:
    """Open a window; at the end its last page is kept as `last.png` and `last.html`."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for argument in (*ARGUMENTS, f"--window-size={WIDTH},{HEIGHT}"):
        options.add_argument(argument)
    screenshots.mkdir(parents=True, exist_ok=True)
    driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    try:
        yield Browser(driver, base, screenshots)
    finally:
        driver.save_screenshot(str(screenshots / "last.png"))
        (screenshots / "last.html").write_text(driver.page_source, encoding="utf-8")
        driver.quit()
