"""How far a run over videos is: frames a second, the time that is left, and what was dropped."""

from types import SimpleNamespace

import pytest

from cpuserve.cli import console
from cpuserve.cli.video.progress import FrameProgress
from cpuserve.video.infer import LiveCounts
from cpuserve.video.video_sources import VideoSource


class Clock:
    """Goes as far as it is told."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def sources(tmp_path):
    found = []
    for name, size in (("a.mp4", 1000), ("b.mp4", 3000)):
        (tmp_path / name).write_bytes(bytes(size))
        found.append(VideoSource(str(tmp_path / name), name))
    return found


def test_the_time_that_is_left_follows_from_the_sizes(sources):
    clock = Clock()
    with FrameProgress(sources, shown=False, clock=clock) as shown:
        clock.now += 1000  # for loading the model, which does not count
        shown.begin(sources[0], SimpleNamespace(frames=10), 0)
        clock.now += 20
        for number in range(10):
            shown.frame(number, LiveCounts())
        text = shown.text(9, LiveCounts(), clock.now)
        assert text.startswith(f"video 1 of 2, {sources[0].name}: frame 10 of 10, 0.5 fps, ")
        assert text.endswith("1:00 left")  # a quarter of the bytes took 20 s
        shown.end(sources[0], "")
        shown.begin(sources[1], SimpleNamespace(frames=100), 0)
        clock.now += 20
        assert shown.text(49, LiveCounts(), clock.now).endswith("0:24 left")


def test_no_less_than_nothing_is_left_after_the_last_video(sources):
    clock = Clock()
    with FrameProgress(sources, shown=False, clock=clock) as shown:
        for place, source in enumerate(sources):
            shown.begin(source, SimpleNamespace(frames=10), 0)
            clock.now += 20
            shown.frame(9, LiveCounts())
            before = shown.text(9, LiveCounts(), clock.now)
            shown.end(source, "")
            # the last line may be printed after the end
            assert shown.text(9, LiveCounts(), clock.now) == before
            assert before.endswith(("1:00 left", "0:00 left")[place])


def test_what_was_dropped_is_said_of_live_sources():
    camera = VideoSource("rtsp://camera/1", "camera", live=True)
    with FrameProgress([camera], shown=False) as shown:
        shown.begin(camera, None, 0)
        text = shown.text(7, LiveCounts(dropped=3, reconnects=2), 1e9)
    assert "3 dropped, 2 reconnects" in text
    assert "left" not in text


def test_outside_a_terminal_a_line_is_printed_now_and_then(sources, monkeypatch, capsys):
    monkeypatch.setattr(console, "EVERY_S", 0.01)
    with FrameProgress(sources, shown=True) as shown:
        shown.begin(sources[0], SimpleNamespace(frames=10), 0)
        shown.frame(4, LiveCounts())
        for _ in range(500):
            if said := capsys.readouterr().err:
                break
            console.threading.Event().wait(0.02)
    assert f"{sources[0].name}: frame 5 of 10" in said.splitlines()[0]


def test_nothing_is_shown_where_nothing_is_wanted(sources, monkeypatch, capsys):
    monkeypatch.setattr(console, "EVERY_S", 0.01)
    with FrameProgress(sources, shown=False) as shown:
        shown.begin(sources[0], SimpleNamespace(frames=10), 0)
        shown.frame(4, LiveCounts())
        console.threading.Event().wait(0.1)
    assert capsys.readouterr().err == ""
