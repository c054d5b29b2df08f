"""Chromium over its DevTools pipe: pages at a width, light or dark, asked by scripts and keys, without a driver."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
# The longest answer, on a machine with other work; a browser that hangs fails the test.
SECONDS = 120


class Tab:
    """One tab of a browser that runs for the tests of a module."""

    def __init__(self, into: int, out: int) -> None:
        self._into, self._out, self._read, self._number = into, out, b"", 0
        target = self._ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.do("Page.enable")

    def do(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Return the answer to a command of the DevTools protocol."""
        return self._ask(method, self._session, **parameters)

    def open(self, path: Path, width: int, dark: bool) -> None:
        """Open a file in a window of a width, for a reader who prefers light or dark."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.do("Emulation.setEmulatedMedia", features=[scheme])
        self.do("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        self.do("Page.navigate", url=path.as_uri())
        self.run("new Promise(done => document.readyState === 'complete' ? done() : addEventListener('load', done))")

    def run(self, script: str) -> Any:
        """Return the value of an expression, of a promise what it resolves to."""
        answer = self.do("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def press(self, key: str, code: int, text: str = "") -> None:
        """Press a key and let it go."""
        pressed = {"key": key, "code": "Space" if key == " " else key, "windowsVirtualKeyCode": code}
        self.do("Input.dispatchKeyEvent", type="keyDown", text=text, **pressed)
        self.do("Input.dispatchKeyEvent", type="keyUp", **pressed)

    def _ask(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        asked = {"id": self._number, "method": method, "params": parameters}
        os.write(self._into, json.dumps(asked | ({"sessionId": session} if session else {})).encode() + b"\0")
        until = time.monotonic() + SECONDS
        while (message := self._next(until)).get("id") != self._number:
            pass
        assert "error" not in message, (method, message["error"])
        return message["result"]

    def _next(self, until: float) -> dict[str, Any]:
        while b"\0" not in self._read:
            ready, _, _ = select.select([self._out], [], [], max(0.0, until - time.monotonic()))
            part = os.read(self._out, 2**16) if ready else b""
            assert part, "the browser does not answer"
            self._read += part
        message, _, self._read = self._read.partition(b"\0")
        return json.loads(message)


@contextlib.contextmanager
def browser(folder: Path) -> Iterator[Tab]:
    """A tab of a browser with a profile of its own in a folder."""
    (its_in, into), (out, its_out) = os.pipe(), os.pipe()
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
    flags += ["--disable-component-update", "--disable-sync", "--remote-debugging-pipe"]
    # The browser reads file 3 and writes file 4.
    line = f'exec "$@" 3<&{its_in} 4>&{its_out}'
    command = ["bash", "-c", line, "bash", str(BROWSER), *flags, f"--user-data-dir={folder / 'profile'}"]
    log = (folder / "browser.log").open("wb")
    running = subprocess.Popen(command, pass_fds=(its_in, its_out), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    for end in (its_in, its_out):
        os.close(end)
    try:
        yield Tab(into, out)
    finally:
        running.kill()
        running.wait()
        for end in (into, out):
            os.close(end)
        log.close()
