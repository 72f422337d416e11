"""`cpuserve video mask` from a video to outlines and a page, and what a browser shows of that page."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import psutil
import pytest

from cpuserve.cli import main
from cpuserve.video import video_file
from cpuserve.video.comments import read_comments
from tests.browser import browser_or_skip, browsing
from tests.video.seen_colours import colour_segmentation, write_video
from tests.video.test_frame_model import box_model

RED, BLUE, GREEN = (230, 30, 30), (30, 30, 230), (0, 255, 0)
FRAMES, RATE = 100, 10
WIDTH, HEIGHT = 320, 180
LATE = 2  # seconds at which the person comes


def person(number: int) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of the person in a frame: it walks from left to right."""
    left = 40 + 2 * (number - LATE * RATE)
    return left, 40, left + 60, 160


def street(number, pixels):
    """A dog in every frame, a person with a hole from the second second on."""
    pixels[140:175, 250:315] = BLUE
    if number >= LATE * RATE:
        left, top, right, bottom = person(number)
        pixels[top:bottom, left:right] = RED
        pixels[top + 50 : top + 70, left + 20 : left + 40] = 20


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    root: Path = tmp_path_factory.mktemp("models")
    colour_segmentation(root / "people" / "1")
    box_model(root / "boxes" / "1")
    return root


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    folder: Path = tmp_path_factory.mktemp("videos")
    return write_video(folder / "a street: 50%.webm", street, FRAMES, size=(WIDTH, HEIGHT), rate=RATE)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser")
    with browsing(browser_or_skip(), folder) as page:
        yield page
    left = [
        one for one in psutil.process_iter(["cmdline"]) if str(folder) in " ".join(one.info["cmdline"] or ())
    ]
    _, alive = psutil.wait_procs(left, timeout=30)  # those that were killed may not be gone yet
    assert not alive


@pytest.fixture
def mask(repository, capfd):
    """Runs the command; gives its exit code, what it printed and its errors."""

    def run(video, folder, *words, model="people"):
        place = ("--model-repository", str(repository), "--precision", "f32")
        with pytest.raises(SystemExit) as ended:
            main(["video", "mask", str(video), "--model", model, "-o", str(folder), *words, *place])
        out, err = capfd.readouterr()
        return ended.value.code, out, err

    return run


def moments(folder):
    """Time and path of each moment of all files, without those that repeat what held."""
    found: list[tuple[float, str]] = []
    for file in sorted((folder / "masks").iterdir()):
        root = ElementTree.parse(file).getroot()  # noqa: S314  # written here
        assert root.get("viewBox") == f"0 0 {WIDTH} {HEIGHT}"
        for path in root.iter("{http://www.w3.org/2000/svg}path"):
            if not found or found[-1][1] != path.get("d"):
                found.append((float(path.get("data-t")), path.get("d")))
    return found


def test_the_outlines_follow_the_person(mask, video, tmp_path):
    code, out, err = mask(video, tmp_path)
    assert (code, err) == (0, "")
    report = json.loads((tmp_path / "mask.json").read_bytes())
    assert (report["frames"], report["files"], report["notes"]) == (FRAMES, 3, [])
    assert report["bytes"] == sum(file.stat().st_size for file in (tmp_path / "masks").iterdir())
    assert re.search(r"100 frames, \d+ changes of the outlines in 3 files: \d+ kB, \d+ kB a minute", out)
    found = moments(tmp_path)
    assert found[0] == (0.0, "")
    assert found[1][0] == pytest.approx(LATE)
    for time_s, path in found[1:]:
        assert path.count("z") == 2  # the hole
        left, top, right, bottom = person(round(time_s * RATE))
        first = [int(number) for number in re.findall(r"-?\d+", path.split("z")[0])]
        points = np.cumsum(np.array(first).reshape(-1, 2), axis=0)
        # the model sees 96 x 96 pixels
        assert points.min(0) == pytest.approx([left, top], abs=5)
        assert points.max(0) == pytest.approx([right, bottom], abs=5)


def test_a_video_that_begins_late_has_the_times_that_a_browser_counts(mask, tmp_path, browser):
    begin = 13  # frames
    late = write_video(tmp_path / "late.webm", street, 25, size=(WIDTH, HEIGHT), rate=RATE, late=begin)
    mask(late, tmp_path / "out")
    assert moments(tmp_path / "out")[1][0] == pytest.approx(LATE + begin / RATE)
    browser.open((tmp_path / "out" / "index.html").as_uri(), WIDTH * 2 + 24, HEIGHT * 3)
    # half a frame before the person comes and half a frame after
    assert [red(browser, LATE + (begin + half) / RATE) for half in (-0.5, 0.5)] == [False, True]


def red(browser, second):
    """Whether the person is to be seen at a time of the video."""
    browser.run(
        f"""(async () => {{
            const video = document.getElementById("video");
            video.removeAttribute("controls");
            const shown = new Promise(done => video.requestVideoFrameCallback(done));
            video.currentTime = {second};
            await shown;
            while (video.seeking) await new Promise(requestAnimationFrame);
            await new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));
        }})()"""
    )
    shown = stage(browser)
    return bool(((shown[..., 0] > 150) & (shown[..., 1] < 100) & (shown[..., 2] < 100)).any())


def test_other_classes_and_fewer_frames_and_points(mask, video, tmp_path, monkeypatch):
    def opened(*_):
        raise AssertionError("a damaged file may crash the process that opens it")

    monkeypatch.setattr(video_file, "open_video", opened)
    code, out, _ = mask(video, tmp_path, "--classes", "2", "--every", "7", "--max-points", "4", "--json")
    report = json.loads(out)
    assert (code, report["frames"], report["classes"]) == (0, 15, ["2"])
    assert 1 <= len(moments(tmp_path)) <= 5  # the dog does not move, but a codec's noise may
    assert mask(video, tmp_path, "--classes", "person, dog", "--every", "10", "--quiet")[1] == ""
    (path,) = {path.count("z") for _, path in moments(tmp_path)[2:]}
    assert path == 3


def test_a_video_without_people_says_so(mask, repository, tmp_path):
    empty = write_video(tmp_path / "empty.avi", lambda _number, _pixels: None, 5, codec="mpeg4")
    code, out, err = mask(empty, tmp_path / "out")
    assert code == 0
    assert "5 frames, 1 change of the outlines in 1 file: " in out
    assert "saw no person in any frame" in err
    assert "browsers do not play mpeg4 in .avi" in err


def test_the_page_holds_the_video_or_names_it_from_where_it_is(mask, video, tmp_path):
    mask(video, tmp_path / "near", "--every", "20")
    page = (tmp_path / "near" / "index.html").read_text()
    (address,) = re.findall(r'<video id="video" src="([^"]*)"', page)
    assert address.startswith("../")
    assert address.endswith("a%20street%3A%2050%25.webm")
    mask(video, tmp_path / "inside", "--every", "20", "--embed")
    page = (tmp_path / "inside" / "index.html").read_text()
    assert 'src="data:video/webm;base64,' in page
    assert not re.findall(r"https?://(?!www\.w3\.org)", page)


@pytest.mark.parametrize("name", ["视频 #1?.webm", "\udcff.webm", "a&b<c>'\".webm"])
def test_any_name_of_a_file_is_played(mask, video, tmp_path, browser, name):
    shutil.copy(video, tmp_path / name)
    assert mask(tmp_path / name, tmp_path / "out", "--every", "50")[0] == 0
    browser.open((tmp_path / "out" / "index.html").as_uri(), WIDTH, HEIGHT)
    width = browser.run(
        """new Promise(done => {
            const video = document.getElementById("video");
            const tell = () => done(video.error ? video.error.message : video.videoWidth);
            video.addEventListener("error", tell);
            video.readyState ? tell() : video.addEventListener("loadedmetadata", tell);
        })"""
    )
    assert width == WIDTH


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--classes", "cat"), "has no class 'cat'; its classes are: background, person, dog"),
        (("--classes", "255"), "has no class '255'"),
        (("--classes", "3"), "has no class '3'; its classes are: background, person, dog"),
        (("--classes", ","), "name at least one class"),
        (("--comments", "none.jsonl"), "comments none.jsonl cannot be read"),
    ],
)
def test_what_cannot_be_is_refused(mask, video, tmp_path, words, said):
    code, _, err = mask(video, tmp_path, *words)
    assert code == 2
    assert said in err
    assert not (tmp_path / "index.html").exists()


def test_what_was_made_before_stays_whole_where_a_run_fails(mask, video, tmp_path):
    assert mask(video, tmp_path / "out", "--every", "10")[0] == 0
    before = {file: file.read_bytes() for file in (tmp_path / "out").rglob("*") if file.is_file()}
    cut = tmp_path / "cut.webm"
    cut.write_bytes(video.read_bytes()[: video.stat().st_size * 3 // 5])
    code, _, err = mask(cut, tmp_path / "out")
    assert code == 1
    assert "cut.webm: it is shorter" in err
    assert {file: file.read_bytes() for file in (tmp_path / "out").rglob("*") if file.is_file()} == before
    assert not (tmp_path / "out" / "masks.part").exists()


def test_what_an_earlier_run_left_unfinished_is_no_part_of_the_next(mask, video, tmp_path):
    left = tmp_path / "masks.part"
    left.mkdir(parents=True)
    (left / "00099.svg").write_text("of a killed run")
    assert mask(video, tmp_path, "--every", "20")[0] == 0
    assert len([*(tmp_path / "masks").iterdir()]) == 3
    assert not left.exists()


def test_a_model_of_boxes_is_refused_with_one_that_would_do(mask, video, tmp_path):
    code, _, err = mask(video, tmp_path, model="boxes")
    assert code == 2
    assert "model boxes does not say which pixels" in err
    assert "deeplabv3_257_mv_gpu" in err


def test_a_video_too_large_for_a_page_is_refused_before_it_is_decoded(mask, video, tmp_path, monkeypatch):
    monkeypatch.setattr("cpuserve.video.mask_player.MOST_EMBEDDED_BYTES", 1000)
    code, _, err = mask(video, tmp_path, "--embed")
    assert code == 2
    assert "leave out --embed" in err
    assert not any(tmp_path.iterdir())


def test_a_file_that_is_no_video_is_named(mask, tmp_path):
    (tmp_path / "no.mp4").write_bytes(b"no video" * 100)
    code, _, err = mask(tmp_path / "no.mp4", tmp_path / "out")
    assert code == 1
    assert "no.mp4" in err
    assert not (tmp_path / "out").exists()


# --- in a browser ---

NOT_SAID = "a text </script><script>document.title='bad'</script>"


@pytest.fixture(scope="module")
def player(browser, video, repository, tmp_path_factory):
    """The page, with comments that stand over the whole picture from second 4.5 on."""
    folder = tmp_path_factory.mktemp("player")
    comments = [{"time": 4.5, "text": "█" * 60, "colour": "#00ff00", "mode": "top"} for _ in range(9)]
    comments.append({"time": 9, "text": NOT_SAID})
    (folder / "comments.json").write_text(json.dumps(comments))
    words = ("--model", "people", "-o", str(folder), "--comments", str(folder / "comments.json"), "--quiet")
    with pytest.raises(SystemExit, match="0"):
        main(["video", "mask", str(video), *words, "--model-repository", str(repository)])
    browser.open((folder / "index.html").as_uri(), WIDTH * 2 + 24, HEIGHT * 3)
    return browser


def play(player, start, end, latest):
    """Play a part of the video and stop; the number of the frame that is shown, which is before ``latest``.

    A busy machine may stop later than asked: then it is played once more.
    """
    for _ in range(20):
        shown = player.run(
            f"""(async () => {{
                const video = document.getElementById("video");
                const until = async (true_) => {{
                    while (!true_()) await new Promise(requestAnimationFrame);
                }};
                video.removeAttribute("controls");  // they would cover the picture
                video.muted = true;
                video.playbackRate = 0.5;
                video.currentTime = {start};
                await until(() => !video.seeking);
                let shown = -1;
                const next = (_now, data) => {{
                    shown = data.mediaTime;
                    video.requestVideoFrameCallback(next);
                }};
                video.requestVideoFrameCallback(next);
                await video.play();
                await until(() => shown >= {end});
                video.pause();
                await new Promise(done => setTimeout(done, 300));
                return shown;
            }})()"""
        )
        if shown < latest:
            return round(shown * RATE)
    raise AssertionError(f"never stopped before {latest} s")


def stage(player):
    """What is shown of the video and over it, RGB [height, width, 3], a pixel of the video each."""
    box = player.run(
        "(() => { const box = document.getElementById('stage').getBoundingClientRect();"
        " return [box.left, box.top, box.width, box.height]; })()"
    )
    left, top, width, height = (round(side) for side in box)
    assert (width, height) == (2 * WIDTH, 2 * HEIGHT)
    return player.picture()[top : top + height : 2, left : left + width : 2].astype(int)


def tick(player, name, ticked):
    player.run(
        f"document.getElementById('{name}').checked !== {ticked} && document.getElementById('{name}').click()"
    )


def covered(player):
    """Where the green comments are."""
    red, green, blue = np.moveaxis(stage(player), -1, 0)
    return (green > 180) & (red < 100) & (blue < 100)


def test_the_page_plays_its_video_and_runs_no_other_script(player):
    assert player.run("document.getElementById('video').error") is None
    assert player.run("document.getElementById('video').videoWidth") == WIDTH
    assert player.run("document.getElementById('failed').hidden") is True
    assert player.run("document.title") == "a street: 50%.webm"


def test_comments_pass_behind_the_person_and_through_the_hole_in_it(player):
    number = play(player, 4.2, 5.5, 8)
    assert number >= 50
    with_mask = covered(player)
    tick(player, "behind", "false")
    without = covered(player)
    tick(player, "behind", "true")
    assert (covered(player) == with_mask).mean() > 0.999
    left, top, right, bottom = person(number)
    inside, near = np.zeros((2, HEIGHT, WIDTH), bool)
    off = 6  # the model sees 96 x 96 pixels, and the next frame may be shown by now
    inside[top + off : bottom - off, left + off : right - off] = True
    inside[top + 50 - off : top + 70 + off, left + 20 - off : left + 40 + off] = False
    near[top - off : bottom + off, left - off : right + off] = True
    near[top + 50 + off : top + 70 - off, left + 20 + off : left + 40 - off] = False
    assert without[inside].mean() > 0.5  # there is something to hide
    assert not with_mask[inside].any()
    assert (with_mask == without)[~near].mean() > 0.999
    assert without[~near].mean() > 0.3


def test_before_the_person_comes_nothing_is_hidden(player):
    play(player, 0.3, 0.5, LATE)
    player.run("document.getElementById('text').value = '\u2588'.repeat(200)")
    player.run("document.getElementById('colour').value = '#00ff00'")
    player.run("document.querySelector('#write button').click()")
    said = player.run("document.getElementById('video').currentTime")
    assert play(player, max(0, said - 0.2), said + 0.4, LATE) < LATE * RATE
    with_mask = covered(player)
    tick(player, "behind", "false")
    without = covered(player)
    tick(player, "behind", "true")
    assert without.any()  # the comment that was written
    assert (with_mask == without).mean() > 0.999
    tick(player, "show", "false")
    assert not covered(player).any()
    tick(player, "show", "true")


def test_comments_that_are_saved_can_be_read_again(player, tmp_path):
    player.run("document.getElementById('text').value = 'mine: \\u201cquoted\\u201d'")
    player.run("document.getElementById('colour').value = '#123456'")
    player.run("document.querySelector('#write button').click()")
    text = player.run(
        """(() => {
            let saved;
            URL.createObjectURL = (blob) => { saved = blob.text(); return "#"; };
            HTMLAnchorElement.prototype.click = () => {};
            document.getElementById("save").click();
            return saved;
        })()"""
    )
    (tmp_path / "comments.jsonl").write_text(text)
    found = read_comments(tmp_path / "comments.jsonl")
    assert {NOT_SAID, "mine: \u201cquoted\u201d"} <= {comment.text for comment in found}
    assert "#123456" in {comment.colour for comment in found}
