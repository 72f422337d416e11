"""The benchmark of a classifier on a video: every way answers every frame, and swscale's ways agree."""

import numpy as np

from benchmarks.fixtures.long_clip import ClipRecipe, make_clip
from cpuserve.video.video_file import probe
from tests.benchmarks.running import run


def test_every_way_answers_every_frame(data_dir, tmp_path):
    words = ("--quick", "--model", "digits", "--clips", str(data_dir / "video"))
    found = run("video_concurrency", tmp_path / "concurrency.json", *words)
    ways = {row["way"]: row for row in found["ways"]}
    assert {row["frames"] for row in ways.values()} == {72}
    assert ways["one_core"]["same_class"] == ways["all_cores"]["same_class"] == 1
    assert set(found["targets"]) <= set(found["speed_ups"])
    assert found["speed_ups"]["total"] > 0
    assert found["clip"]["of"] == [
        *("car-detection.mp4", "highway.avi", "one-by-one-person-detection.mp4", "street_cars.mp4"),
    ]


def test_a_clip_is_made_as_its_recipe_says(data_dir, tmp_path):
    recipe = ClipRecipe(frames=50, width=160, height=96, rate=24, gop=12)
    videos = [data_dir / "video" / name for name in ("highway.avi", "odd_48x48_raw.avi")]
    make_clip(tmp_path / "clip.mp4", videos, recipe)
    made = probe(tmp_path / "clip.mp4")
    assert (made.frames, made.width, made.height, made.frame_rate) == (50, 160, 96, 24)
    assert np.diff(np.flatnonzero(made.key)).max() == 12  # a cut has a keyframe of its own
