"""The examples in tuning/ and profiles/ are read by the code that reads users' own."""

from __future__ import annotations

import re
from pathlib import Path

from cpuserve.profiling.findings import find
from cpuserve.profiling.page import PAGE, write_page
from cpuserve.profiling.recording import Recording
from cpuserve.tune.preset_store import PresetStore, read_preset

ROOT = Path(__file__).resolve().parent.parent.parent
PROFILE = ROOT / "profiles" / "example"
PATH = re.compile(r"(?<![\w.])/(?:home|root|tmp|usr|var|work|Users)/")


def test_a_preset_fits_the_machine_and_model_it_was_measured_with():
    store = PresetStore(ROOT / "tuning" / "example")
    (file,) = store.files("digits")
    preset = read_preset(file)
    assert preset.key.fingerprint == file.parent.name
    match = store.find("digits", preset.key)
    assert (match.kind, match.refused, match.path) == ("exact", (), file)
    assert not PATH.search(file.read_text())
    assert preset.settings == {"enable_cpu_pinning": True, "workers": 1}


def test_serve_does_not_take_the_example_for_a_preset_of_its_own():
    assert ROOT / "tuning" / "example" not in {
        file.parent for file in PresetStore(ROOT / "tuning").files("digits")
    }


def test_the_recording_makes_a_page_with_its_findings(tmp_path):
    recording = Recording.load_from(PROFILE)
    text = write_page(recording, tmp_path).read_text(encoding="utf-8")
    assert len(recording.requests) == 27
    assert [one.rule for one in find(recording)] == ["json-heavy", "idle"]
    for heading in ("Where the latency goes", "Threads, busy and waiting", "Hottest layers", "Flame graph"):
        assert f"<h2>{heading}</h2>" in text


def test_the_page_and_the_recording_name_no_path_and_load_nothing():
    page = (PROFILE / PAGE).read_text(encoding="utf-8")
    assert "<h1>digits</h1>" in page
    assert not re.search(r"https?://|url\(|@import|<link|<img", page)
    for file in PROFILE.iterdir():
        assert not PATH.search(file.read_text(encoding="utf-8")), file
