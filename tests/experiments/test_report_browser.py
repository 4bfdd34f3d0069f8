"""A report in headless Chromium: everything loads and plays, nothing is fetched, nothing overflows.

Skips where there is no Chromium. Chromium's own protocol over a pipe needs nothing installed:
https://chromedevtools.github.io/devtools-protocol/
"""

import json
import os
import select
import shutil
import subprocess
import time
from itertools import count

import pytest

pytestmark = pytest.mark.slow
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-quic"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--remote-debugging-pipe",
)
PATIENCE = 60  # seconds, for an answer
PHONE, WIDE = (390, 844), (1440, 900)
# Boxes that scroll by themselves clip what they hold; all else must be as wide as the page.
OVERFLOW = """[document.documentElement.scrollWidth - document.documentElement.clientWidth,
    [...document.querySelectorAll('body *')]
        .filter(e => !e.closest('.wide') && e.getBoundingClientRect().right > innerWidth + 1)
        .map(e => e.tagName + ' ' + e.textContent.slice(0, 40))]"""
MEDIA = """Promise.all([...document.querySelectorAll('audio')].map(a => new Promise(done => {
        if (a.readyState || a.error) return done();
        a.onloadedmetadata = a.onerror = done;
        a.load();
    }))).then(() => ({
        durations: [...document.querySelectorAll('audio')].map(a => a.duration || 0),
        widths: [...document.querySelectorAll('img')].map(i => i.complete ? i.naturalWidth : 0),
        names: [...document.querySelectorAll('audio')].map(a => a.getAttribute('aria-label'))
            .concat([...document.querySelectorAll('img')].map(i => i.alt)),
    }))"""
# The contrast of each text with what is behind it, as WCAG has it; opaque colours only.
CONTRAST = """(() => {
    const numbers = c => c.match(/[\\d.]+/g).map(Number);
    const light = c => numbers(c).slice(0, 3).map(v => v / 255)
        .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
        .reduce((sum, v, n) => sum + v * [0.2126, 0.7152, 0.0722][n], 0);
    const behind = e => {
        for (; e; e = e.parentElement) {
            const colour = getComputedStyle(e).backgroundColor;
            if ((numbers(colour)[3] ?? 1) > 0) return colour;
        }
        return 'rgb(255, 255, 255)';
    };
    const told = [...document.querySelectorAll('body *')].filter(e =>
        [...e.childNodes].some(n => n.nodeType == 3 && n.data.trim()));
    return Math.min(...told.map(e => {
        const [a, b] = [light(getComputedStyle(e).color), light(behind(e))];
        return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    }));
})()"""


class Browser:
    """One page of a browser. events: what the browser told without being asked."""

    def __init__(self, profile):
        self.events = []
        self._ids, self._unread, self._session = count(1), b"", {}
        here, there = os.pipe(), os.pipe()
        self._out, self._in = here[1], there[0]
        # It reads from descriptor 3 and writes to 4.
        script = f'exec "$0" "$@" 3<&{here[0]} 4>&{there[1]}'
        self._process = subprocess.Popen(
            ["bash", "-c", script, CHROMIUM, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
            pass_fds=(here[0], there[1]),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(here[0])
        os.close(there[1])
        page = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=page, flatten=True)
        self._session = {"sessionId": attached["sessionId"]}
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method, **params):
        number = next(self._ids)
        message = {"id": number, "method": method, "params": params, **self._session}
        os.write(self._out, json.dumps(message).encode() + b"\0")
        answer = self._until(lambda message: message.get("id") == number)
        assert "error" not in answer, (method, answer)
        return answer["result"]

    def open(self, file, size, scheme="light"):
        """size: of the window in CSS pixels. Returns once all is loaded."""
        width, height = size
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=size == PHONE,
        )  # fmt: skip
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.call("Emulation.setEmulatedMedia", features=[feature])
        self.events.clear()
        self.call("Page.navigate", url=file.resolve().as_uri())
        if not self.named("Page.loadEventFired"):
            self._until(lambda message: message.get("method") == "Page.loadEventFired")

    def ask(self, expression):
        """The value of JavaScript in the page."""
        answer = self.call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def named(self, *methods):
        return [event for event in self.events if event.get("method") in methods]

    def close(self):
        os.close(self._out)  # it ends with its pipe
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._in)

    def _until(self, wanted):
        end = time.monotonic() + PATIENCE
        while True:
            while b"\0" not in self._unread:
                ready, _, _ = select.select([self._in], [], [], max(end - time.monotonic(), 0))
                assert ready, "Chromium does not answer"
                read = os.read(self._in, 1 << 20)
                assert read, "Chromium has ended"
                self._unread += read
            line, self._unread = self._unread.split(b"\0", 1)
            message = json.loads(line)
            if "id" not in message:
                self.events.append(message)
            if wanted(message):
                return message


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if CHROMIUM is None:
        pytest.skip("no Chromium")
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def file(small_runs, environment, tmp_path_factory):
    """A report with real figures."""
    from pvae_pyro.experiments import report

    folder = tmp_path_factory.mktemp("reported") / "run"
    shutil.copytree(small_runs["pvae"], folder)
    assert report.main([str(folder)]) == 0
    return folder / "report.html"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, WIDE])
def test_it_loads_plays_and_fits(browser, file, size, scheme):
    browser.open(file, size, scheme)
    media = browser.ask(MEDIA)
    assert len(media["durations"]) == 41
    assert min(media["durations"]) > 0
    assert len(media["widths"]) > 50
    assert min(media["widths"]) > 0
    assert all(media["names"])
    assert browser.ask(OVERFLOW) == [0, []]
    assert browser.ask("innerWidth") == size[0]
    assert browser.ask(CONTRAST) >= 4.5  # WCAG 2.2, AA
    asked = [e["params"]["request"]["url"] for e in browser.named("Network.requestWillBeSent")]
    assert [url for url in asked if not url.startswith("data:")] == [file.resolve().as_uri()]
    told = ("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown")
    assert browser.named(*told) == []
    dark = browser.ask("getComputedStyle(document.body).backgroundColor")
    assert (dark == "rgb(255, 255, 255)") == (scheme == "light")


def test_nothing_in_it_can_run_or_be_fetched(browser, file, tmp_path):
    """The policy holds: of what a mistake might let in, nothing runs."""
    attack = "<script>window.attacked = 1</script><img src='http://127.0.0.1:9/x.png'>"
    copy = tmp_path / "attacked.html"
    copy.write_text(file.read_text("utf-8").replace("<main>", f"<main>{attack}"), "utf-8")
    browser.open(copy, WIDE)
    assert browser.ask("typeof window.attacked") == "undefined"
    told = [event["params"]["entry"]["text"] for event in browser.named("Log.entryAdded")]
    assert any("Content Security Policy" in text and "127.0.0.1" in text for text in told)
    assert any("Content Security Policy" in text and "inline script" in text for text in told)
