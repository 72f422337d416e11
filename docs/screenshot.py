"""Writes docs/page.png: the page at / of a server of the digits model, with docs/seven.png and its answer.

Run as ``python docs/screenshot.py`` in a checkout with the packages of the tests and a Chromium.
"""

from __future__ import annotations

import base64
import itertools
import sys
import tempfile
import threading
from pathlib import Path

import cv2

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.browser import browsing, find_browser  # noqa: E402
from tests.servers import Server, serving  # noqa: E402

WIDTH, HEIGHT = 1000, 1010
DROP = """(async () => {
  const bytes = Uint8Array.from(atob("%s"), letter => letter.charCodeAt(0));
  const files = new DataTransfer();
  files.items.add(new File([bytes], "seven.png", {type: "image/png"}));
  const input = document.getElementById("file");
  for (let model = document.getElementById("model"); !model.options.length;)
    await new Promise(done => setTimeout(done, 100));
  input.files = files.files;
  input.dispatchEvent(new Event("change", {bubbles: true}));
  for (const answers = document.getElementById("answers"); !answers.children.length;)
    await new Promise(done => setTimeout(done, 100));
  await new Promise(done => setTimeout(done, 16000));
})()"""


def main() -> None:
    """Start a server, ask it through the page, and keep what the page shows."""
    program = find_browser()
    if program is None:
        sys.exit("no Chromium: install chromium-headless-shell, or name one in CPUSERVE_TEST_BROWSER")
    seven = (ROOT / "docs" / "seven.png").read_bytes()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        models = ("--model-repository", str(ROOT / "ir_models"))
        with serving(folder / "log", *models) as server, browsing(program, folder) as browser:
            done = threading.Event()
            load = threading.Thread(target=_load, args=(server, seven, done))
            load.start()
            try:
                browser.open(f"http://127.0.0.1:{server.port}/", WIDTH, HEIGHT)
                browser.run(DROP % base64.b64encode(seven).decode())
                picture = browser.picture()
            finally:
                done.set()
                load.join()
    cv2.imwrite(str(ROOT / "docs" / "page.png"), picture[:, :, ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 9])


def _load(server: Server, body: bytes, done: threading.Event) -> None:
    """Give the lines of the page something to show."""
    for wait_s in itertools.cycle([0.005] * 60 + [0.02] * 30):
        server.post("/predictions/digits", body)
        if done.wait(wait_s):
            return


if __name__ == "__main__":
    main()
