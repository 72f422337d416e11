"""A headless Chromium, driven by its DevTools protocol, for tests of what a page shows."""

from __future__ import annotations

import asyncio
import base64
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import cv2
import numpy as np
import pytest

__all__ = ["Browser", "browser_or_skip", "browsing", "find_browser"]

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "chrome")
START_S = ANSWER_S = 60.0


def find_browser() -> str | None:
    """The program of a Chromium: that of CPUSERVE_TEST_BROWSER, else one on the PATH; None without one."""
    named = os.environ.get("CPUSERVE_TEST_BROWSER")
    return named or next((found for name in NAMES if (found := shutil.which(name))), None)


def browser_or_skip() -> str:
    """The program of a Chromium; without one the test is skipped, or fails in CI that did not say why."""
    if program := find_browser():
        return program
    said = "no Chromium on the PATH or in CPUSERVE_TEST_BROWSER: apt-get install chromium-headless-shell"
    why = os.environ.get("CPUSERVE_TEST_NO_BROWSER", "")
    if os.environ.get("CI") == "true" and not why:
        pytest.fail(f"{said}; .ci/run says in CPUSERVE_TEST_NO_BROWSER why none can be had")
    pytest.skip(f"no Chromium can be had: {why}" if why else said)


class Browser:
    """One page."""

    def __init__(self, loop: asyncio.AbstractEventLoop, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._loop = loop
        self._socket = socket
        self._count = 0
        self._session: str | None = None
        target = self._ask("Target.createTarget", url="about:blank")["targetId"]
        attached = self._ask("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        self._ask("Page.enable")

    def open(self, url: str, width: int, height: int) -> None:
        """Show an address, in a window of this size."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self._ask("Emulation.setDeviceMetricsOverride", **size)
        failed = self._ask("Page.navigate", url=url).get("errorText")
        assert not failed, failed
        self.run(
            "new Promise(done => document.readyState === 'complete'"
            " ? done() : addEventListener('load', done))"
        )

    def run(self, script: str) -> Any:
        """The value of an expression; of a promise what it resolves to."""
        answer = self._ask("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def picture(self) -> np.ndarray[Any, Any]:
        """What the window shows, RGB u8 [height, width, 3]."""
        data = base64.b64decode(self._ask("Page.captureScreenshot", format="png")["data"])
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        assert decoded is not None
        return decoded[:, :, ::-1]

    def _ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        async def ask() -> dict[str, Any]:
            self._count += 1
            message = {"id": self._count, "method": method, "params": parameters}
            if self._session is not None:
                message["sessionId"] = self._session
            await self._socket.send_json(message)
            while True:
                answer: dict[str, Any] = await self._socket.receive_json(timeout=ANSWER_S)
                if answer.get("id") == self._count:
                    assert "error" not in answer, answer["error"]
                    result: dict[str, Any] = answer["result"]
                    return result

        return self._loop.run_until_complete(ask())


@contextmanager
def browsing(program: str, folder: Path) -> Iterator[Browser]:
    """Start a browser that keeps what it writes in a folder, and end it."""
    profile = folder / "profile"
    command = [
        *(program, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--mute-audio"),
        *("--autoplay-policy=no-user-gesture-required", "--no-first-run", "--disable-dev-shm-usage"),
        *("--remote-debugging-port=0", f"--user-data-dir={profile}", "about:blank"),
    ]
    with (folder / "browser.log").open("wb") as log:
        # Debian's program is a shell script that starts the browser: they are ended together
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    loop = asyncio.new_event_loop()
    try:
        session, socket = loop.run_until_complete(
            _connect(_address(process, profile, folder / "browser.log"))
        )
        try:
            yield Browser(loop, socket)
        finally:
            loop.run_until_complete(socket.close())
            loop.run_until_complete(session.close())
    finally:
        loop.close()
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(START_S)


def _address(process: subprocess.Popen[bytes], profile: Path, log: Path) -> str:
    """Where the browser listens, once it does."""
    file, until = profile / "DevToolsActivePort", time.monotonic() + START_S
    while True:
        lines = file.read_text().split() if file.exists() else []
        if len(lines) == 2:
            return f"ws://127.0.0.1:{lines[0]}{lines[1]}"
        assert process.poll() is None and time.monotonic() < until, log.read_text(errors="replace")
        time.sleep(0.05)


async def _connect(address: str) -> tuple[aiohttp.ClientSession, aiohttp.ClientWebSocketResponse]:
    session = aiohttp.ClientSession()
    return session, await session.ws_connect(address, max_msg_size=1 << 28)
