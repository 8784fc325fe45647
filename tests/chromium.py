"""A headless Chromium, driven through its DevTools protocol."""

import base64
import itertools
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.sync.client import connect

_PATIENCE_S = 90.0
PROGRAMS = ("chromium", "chromium-browser", "google-chrome")


def _pages(port: str) -> list[dict[str, Any]]:
    targets = httpx.get(f"http://127.0.0.1:{port}/json").json()
    return [one for one in targets if one["type"] == "page"]


class PageLeft(Exception):
    """The page went elsewhere (a redirect, a reload) while it was asked something."""


class Chromium:
    """A browser with one window, nothing kept on disk; ends with `close`."""

    def __init__(self, width: int = 1366, height: int = 768):
        program = next((found for name in PROGRAMS if (found := shutil.which(name))), None)
        if program is None:
            pytest.skip("no Chromium (Debian: apt install chromium): the tests in a browser are skipped")
        self._profile = Path(tempfile.mkdtemp(prefix="lcops-chromium-"))
        self._process = subprocess.Popen(
            [program, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
             "--remote-debugging-port=0", f"--user-data-dir={self._profile}", f"--window-size={width},{height}",
             "about:blank"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self._numbers = itertools.count(1)
        self.errors: list[str] = []
        """What scripts of the pages threw, and what the security policy blocked."""
        self._held: list[str] = []
        port = self._until(lambda: (self._profile / "DevToolsActivePort").read_text().split()[0])
        pages = self._until(lambda: _pages(port))
        self._open = ExitStack()
        self._socket = self._open.enter_context(connect(pages[0]["webSocketDebuggerUrl"], max_size=2**27))
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    @staticmethod
    def _until(look: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            try:
                if found := look():
                    return found
            except (OSError, httpx.HTTPError, IndexError):
                pass
            assert time.monotonic() < deadline, "Chromium does not come up"
            time.sleep(0.1)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """A command of the protocol."""
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            message = json.loads(self._socket.recv(timeout=120))
            self._notice(message)
            if message.get("id") == number:
                if "navigated or closed" in message.get("error", {}).get("message", ""):
                    raise PageLeft(method)
                assert "error" not in message, (method, message)
                return message["result"]

    def _notice(self, message: dict[str, Any]) -> None:
        if message.get("method") == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(message["params"]["exceptionDetails"])[:1000])
        if message.get("method") == "Log.entryAdded" and message["params"]["entry"]["level"] == "error":
            entry = message["params"]["entry"]
            self.errors.append(f"{entry['text']} {entry.get('url', '')}")
        if message.get("method") == "Fetch.requestPaused":
            self._held.append(message["params"]["requestId"])

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression in the page."""
        result = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, (script, result)
        return result["result"].get("value")

    def wait(self, script: str, seconds: float = _PATIENCE_S) -> Any:
        """Until an expression is true."""
        deadline = time.monotonic() + seconds
        looked = f"(() => {{ try {{ const value = {script}; return value?.nodeType ? true : value }} catch {{}} }})()"
        while True:
            with suppress(PageLeft):
                if value := self.run(looked):
                    return value
            if time.monotonic() > deadline:
                raise AssertionError(f"never true: {script}\n{self.run('document.body.innerText')[:2000]}")
            time.sleep(0.1)

    def open(self, url: str) -> None:
        """Go somewhere, and wait until it is there."""
        self.call("Page.navigate", url=url)
        self.wait("document.readyState === 'complete' && location.href !== 'about:blank'")

    def hold(self, pattern: str) -> None:
        """Keep what is asked of these URLs waiting, as a slow line does, until `let_go`."""
        self.call("Fetch.enable", patterns=[{"urlPattern": pattern}])

    def let_go(self) -> None:
        deadline = time.monotonic() + _PATIENCE_S
        while not self._held:
            assert time.monotonic() < deadline, "nothing was held"
            self.run("0")
        while self._held:
            self.call("Fetch.continueRequest", requestId=self._held.pop())
        self.call("Fetch.disable")

    def cookie(self, url: str, name: str, value: str) -> None:
        self.call("Network.setCookie", url=url, name=name, value=value, httpOnly=True)

    def mouse(self, kind: str, x: float, y: float) -> None:
        """mousePressed, mouseReleased or mouseMoved, with the left button."""
        pressed = kind != "mouseMoved"
        self.call(
            "Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=int(pressed)
        )

    def click(self, x: float, y: float) -> None:
        self.mouse("mousePressed", x, y)
        self.mouse("mouseReleased", x, y)

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        self.mouse("mousePressed", *start)
        for part in (0.3, 0.7, 1.0):
            self.mouse("mouseMoved", *(a + part * (b - a) for a, b in zip(start, end, strict=True)))
        self.mouse("mouseReleased", *end)

    def move(self, x: float, y: float) -> None:
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def key(self, name: str, text: str = "") -> None:
        codes = {
            "Enter": 13,
            "Tab": 9,
            "ArrowRight": 39,
            "ArrowLeft": 37,
            "ArrowDown": 40,
            "ArrowUp": 38,
            "Escape": 27,
        }
        common = {"key": name, "code": name, "windowsVirtualKeyCode": codes.get(name, ord(name[0]))}
        text = text or ("\r" if name == "Enter" else name if len(name) == 1 else "")
        self.call("Input.dispatchKeyEvent", type="keyDown", **common, **({"text": text} if text else {}))
        self.call("Input.dispatchKeyEvent", type="keyUp", **common)

    def write(self, text: str) -> None:
        self.call("Input.insertText", text=text)

    def dark(self, on: bool = True) -> None:
        value = "dark" if on else "light"
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": value}])

    def screenshot(self, path: Path, whole: bool = False) -> None:
        picture = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(picture["data"]))

    def close(self) -> None:
        self._open.close()
        self._process.terminate()
        self._process.wait(30)
        shutil.rmtree(self._profile, ignore_errors=True)
