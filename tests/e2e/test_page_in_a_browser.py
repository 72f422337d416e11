"""The page at / in a browser, beside a real server: what it draws, what it clears, and what it says."""

from __future__ import annotations

import base64
import shutil
import time

import cv2
import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as ops

from cpuserve.models.card import Card
from tests.browser import browser_or_skip, browsing
from tests.conftest import ROOT
from tests.servers import serving

BLUE, ORANGE, GREEN = (47, 111, 208), (232, 145, 45), (44, 156, 106)  # the colours of classes 0, 1 and 2


def publish(root, name, outputs, entry, card):
    folder = root / name / "1"
    folder.mkdir(parents=True)
    model = ov.Model([ops.result(output) for output in outputs], [entry])
    card.write(model)
    ov.save_model(model, folder / "model.xml")


def entry_of(side):
    entry = ops.parameter((1, 3, side, side), np.float32, name="image")
    entry.output(0).set_names({"image"})
    nothing = ops.multiply(ops.reduce_max(entry, np.array([0, 1, 2, 3])), np.float32(0))
    return entry, nothing


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    root = tmp_path_factory.mktemp("page") / "models"
    shutil.copytree(ROOT / "ir_models" / "digits", root / "digits")
    entry, nothing = entry_of(40)
    found = np.zeros((1, 1, 2, 7), np.float32)
    found[0, 0, 0] = 0, 1, 0.75, 0.4, 0.25, 0.6, 0.5
    publish(root, "dogs", [ops.add(ops.constant(found), nothing)], entry, Card("SSD", labels=("cat", "dog")))
    entry, nothing = entry_of(192)
    points = np.full((1, 1, 17, 3), 0.5, np.float32)
    publish(root, "pose", [ops.add(ops.constant(points), nothing)], entry, Card("MoveNet"))
    entry, _ = entry_of(40)
    red = ops.gather(entry, np.array([0]), np.int64(1))
    scores = ops.concat([ops.multiply(red, np.float32(0)), ops.subtract(red, np.float32(128))], 1)
    labels = ("background", "red")
    card = Card("Segmentation", labels=labels, reverse_input_channels=True)
    publish(root, "areas", [scores], entry, card)
    return root


@pytest.fixture(scope="module")
def server(repository, tmp_path_factory):
    log = tmp_path_factory.mktemp("page-log") / "log"
    with serving(log, "--model-repository", str(repository), "--workers", "1") as running:
        yield running


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with browsing(browser_or_skip(), tmp_path_factory.mktemp("browser")) as page:
        yield page


@pytest.fixture
def page(browser, server):
    browser.open(f"http://127.0.0.1:{server.port}/", 1280, 1600)
    until(browser, "$('model').options.length >= 4")
    return browser


def until(browser, script, seconds=30.0):
    end = time.monotonic() + seconds
    while not browser.run(script):
        assert time.monotonic() < end, (script, browser.run("document.body.innerText")[:2000])
        time.sleep(0.05)


def picture(colour, side=200):
    return cv2.imencode(".png", np.full((side // 2, side, 3), colour, np.uint8))[1].tobytes()


def send(browser, model, content, name="a.png"):
    """Choose a model and a picture, as dropping it does; wait for the end of it."""
    data = base64.b64encode(content).decode()
    browser.run(
        f"$('model').value = {model!r}; describe();"
        f"choose([new File([Uint8Array.from(atob({data!r}), c => c.charCodeAt(0))], {name!r})])"
    )
    until(browser, "!$('again').disabled")


def canvas(browser):
    """The pixels of the drawing, RGB u8 [height, width, 3]."""
    data = browser.run("$('preview').toDataURL('image/png').split(',')[1]")
    return cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]


def near(pixels, colour):
    return np.abs(pixels.astype(int) - colour).max(axis=2) < 40


def test_classes_are_listed_beside_the_picture(page):
    send(page, "digits", (ROOT / "docs" / "seven.png").read_bytes())
    assert page.run("$('answers').innerText").startswith("7")
    assert page.run("$('result').hidden") is False
    assert canvas(page).std() > 10


def test_boxes_are_drawn_where_they_are(page):
    send(page, "dogs", picture((60, 60, 60)))
    drawn = canvas(page)
    height, width = drawn.shape[:2]
    rows, columns = np.nonzero(near(drawn, ORANGE)[height // 4 + 3 :])
    assert (rows.max() + height // 4 + 3) / height == pytest.approx(0.5, abs=0.03)
    assert columns.min() / width == pytest.approx(0.4, abs=0.03)
    assert columns.max() / width == pytest.approx(0.6, abs=0.03)
    assert page.run("$('answers').innerText").startswith("dog")


def test_keypoints_are_drawn(page):
    send(page, "pose", picture((60, 60, 60)))
    drawn = canvas(page)
    middle = drawn[drawn.shape[0] // 2 - 2 : drawn.shape[0] // 2 + 2, drawn.shape[1] // 2 - 2 :][:, :4]
    assert np.abs(middle.astype(int) - 60).max() > 40


def test_areas_are_drawn(page):
    half = np.zeros((100, 200, 3), np.uint8)
    half[:, 100:] = (40, 40, 230)  # BGR: red
    send(page, "areas", cv2.imencode(".png", half)[1].tobytes())
    drawn = canvas(page)
    left, right = drawn[:, : drawn.shape[1] // 3], drawn[:, -drawn.shape[1] // 3 :]
    assert np.abs(right.reshape(-1, 3).mean(0) - (230, 40, 40)).max() > 20  # painted over
    assert left.mean() < 40
    assert "red" in page.run("$('answers').innerText")


def test_an_error_clears_the_answer_before_it(page):
    send(page, "digits", (ROOT / "docs" / "seven.png").read_bytes())
    send(page, "digits", b"no picture at all", "a.txt")
    assert "JPEG" in page.run("$('problem').innerText")
    assert page.run("$('result').hidden") is True
    assert page.run("$('answers').children.length") == 0
    send(page, "dogs", picture((9, 9, 9)))
    assert page.run("$('problem').innerText") == ""


@pytest.mark.parametrize("fails", [False, True])
def test_an_answer_to_an_older_picture_is_not_shown_over_a_newer_one(page, fails):
    page.run(
        "window.real ||= send; window.calls = 0;"
        "send = async (...given) => { const mine = ++calls; const found = await real(...given);"
        f"  if (mine === 1) {{ await new Promise(done => setTimeout(done, 700)); if ({str(fails).lower()})"
        "  throw new Error('of the older one'); } return found; }"
    )
    data = base64.b64encode(picture((60, 60, 60))).decode()
    script = f"choose([new File([Uint8Array.from(atob({data!r}), c => c.charCodeAt(0))], 'a.png')]);"
    page.run(f"$('model').value = 'digits'; {script}")
    page.run(f"$('model').value = 'dogs'; {script}")
    until(page, "$('answers').innerText.startsWith('dog')")
    time.sleep(1.2)
    assert page.run("$('answers').innerText").startswith("dog")
    assert page.run("$('problem').innerText") == ""
    page.run("send = real")


def test_what_it_waits_for_is_said_until_the_answer_comes(page):
    page.run(
        "const ask_ = ask; window.free = null; window.ask = ask = async (path, more) => {"
        " await new Promise(done => { free = done }); return ask_(path, more) }"
    )
    data = base64.b64encode(picture((9, 9, 9))).decode()
    page.run(
        "$('model').value = 'dogs'; $('shrink').checked = false;"
        f"choose([new File([Uint8Array.from(atob({data!r}), c => c.charCodeAt(0))], 'a.png')]); 1"
    )
    until(page, "$('doing').textContent === 'asking dogs …'")
    until(page, "free && (free(), !$('again').disabled)")
    assert page.run("$('doing').textContent + $('problem').textContent") == ""


def test_models_that_are_unloaded_and_changed_meanwhile(page, server):
    """An unloaded model is offered no longer; a new version may have another input."""
    try:
        send(page, "digits", (ROOT / "docs" / "seven.png").read_bytes())
        assert page.run("'digits' in inputs")
        for name in ("digits", "dogs", "pose", "areas"):
            assert server.post(f"/v2/repository/models/{name}/unload", b"{}").status == 200
        send(page, "digits", (ROOT / "docs" / "seven.png").read_bytes())
        assert "unknown model" in page.run("$('problem').textContent").lower()
        until(page, "$('model').options.length === 0 && !Object.keys(inputs).length")
        page.run("attempt([true])")
        assert page.run("$('problem').textContent") == "no model is ready"
    finally:
        for name in ("digits", "dogs", "pose", "areas"):
            server.post(f"/v2/repository/models/{name}/load", b"{}")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "the picture is empty"),
        (b"%PDF-1.4 " + bytes(100), "PDF, which is not supported"),
        (b"no picture", "not a picture of a known format"),
        (bytes(40_000_000), "setting max_body_bytes"),
    ],
)
def test_what_is_dropped_and_is_no_picture_is_named(page, content, said):
    page.run(f"$('model').value = 'digits'; window.odd = new Uint8Array({len(content)}); 1")
    if len(content) < 1000:
        page.run(f"odd = Uint8Array.from({[*content]})")
    page.run("choose([new File([odd], 'odd.bin')]); 1")
    until(page, "!$('again').disabled")
    assert said in page.run("$('problem').textContent")
    assert page.run("$('result').hidden") is True


def test_history_settings_details_and_commands_are_shown(page, server):
    for _ in range(3):
        server.post("/predictions/digits", (ROOT / "docs" / "seven.png").read_bytes())
        time.sleep(0.3)
    until(page, "looks.length >= 3")
    said = page.run("$('history').innerText")
    for title in ("images/s", "latency, ms", "waiting requests", "CPUs", "memory, MiB", "refused/s"):
        assert title in said
    points = page.run(
        "[...document.querySelectorAll('#history polyline')].map(l => l.getAttribute('points'))"
    )
    assert len(points[0].split()) >= 3
    assert page.run("looks.at(-1).memory") > 10
    until(page, "$('settings').tBodies[0].rows.length > 0")
    assert "model_repository" in page.run("$('settings').textContent")
    page.run("$('model').value = 'dogs'; $('details').open = true; describe()")
    until(page, "$('details').textContent.includes('max_batch_size')")
    assert page.run("$('curl').textContent").endswith(f"http://127.0.0.1:{server.port}/predictions/dogs")
    assert 'client.predict("dogs"' in page.run("$('python').textContent")


@pytest.mark.parametrize("width", [390, 768, 1280])
def test_nothing_overflows(browser, server, width):
    browser.open(f"http://127.0.0.1:{server.port}/", width, 900)
    until(browser, "$('model').options.length >= 4")
    send(browser, "dogs", picture((60, 60, 60), 3000))
    browser.run("for (const one of document.querySelectorAll('details')) one.open = true")
    until(browser, "looks.length >= 1")
    assert browser.run("document.documentElement.scrollWidth") <= width
    wide = browser.run(
        "[...document.querySelectorAll('main *')].filter(one => !one.closest('.scroll') &&"
        " one.getBoundingClientRect().right > innerWidth + 1).map(one => one.outerHTML.slice(0, 80))"
    )
    assert wide == []


def test_a_server_that_is_gone_is_said_to_be(browser, repository, tmp_path):
    with serving(tmp_path / "log", "--model-repository", str(repository), "--workers", "1") as server:
        browser.open(f"http://127.0.0.1:{server.port}/", 800, 800)
        until(browser, "$('health').textContent === 'ready'")
    until(browser, "$('health').textContent.includes('the server is gone')")
    assert browser.run("document.body.classList.contains('gone')") is True
