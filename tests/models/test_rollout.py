"""Labels and candidates: what is read, from where, and what is refused."""

from __future__ import annotations

import json

import pytest

from cpuserve.errors import UsageError
from cpuserve.models.rollout import NO_ROLLOUT, CandidateVersion, Rollout, read_rollout_file
from cpuserve.settings import Settings, load


def test_labels_and_candidates_are_read_by_number_and_label():
    found = Rollout.parse(
        {
            "version_labels": {"stable": 1, "canary": 2},
            "canary": {"label": "canary", "share": 0.05, "header": "X-User"},
            "shadow": {"version": 3, "share": 1},
        },
        "here",
    )
    assert found.labels == {"stable": 1, "canary": 2}
    assert found.canary == CandidateVersion("canary", 0.05, "x-user")
    assert found.number(found.canary) == 2
    assert found.candidates == {2, 3}
    assert found.versions == {1, 2, 3}
    assert Rollout.parse({"version_labels": None, "canary": None, "shadow": {}}, "here") == NO_ROLLOUT


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"labels": {}}, "here: unknown key 'labels'; there are version_labels, canary, shadow"),
        ({"version_labels": [1]}, 'version_labels is an object such as {"stable": 1}'),
        ({"version_labels": {"1": 1}}, "label '1' is refused"),
        ({"version_labels": {"a/b": 1}}, "label 'a/b' is refused"),
        ({"version_labels": {"a": "1"}}, "the version of label a is a whole number from 1, not '1'"),
        ({"version_labels": {"a": True}}, "the version of label a is a whole number"),
        ({"canary": 2}, 'canary is an object such as {"version": 2, "share": 0.05}, not 2'),
        ({"canary": 0}, "canary is an object"),
        ({"canary": {"version": 2}}, "the share of canary is a number from 0 to 1, not None"),
        ({"canary": {"version": 2, "share": 5}}, "the share of canary is a number from 0 to 1, not 5"),
        ({"canary": {"version": 0, "share": 0}}, "the version of canary is a whole number from 1, not 0"),
        ({"canary": {"share": 0.1}}, "canary has either a version or a label"),
        ({"canary": {"version": 1, "label": "a", "share": 0.1}}, "canary has either a version or a label"),
        ({"canary": {"label": "a", "share": 0.1}}, "canary has the label 'a'; labels are: none"),
        ({"canary": {"version": 2, "percent": 5}}, "canary has no 'percent'"),
        ({"canary": {"version": 2, "share": 0.1, "header": "a b"}}, "the header of canary is the name"),
        ({"shadow": {"version": 2, "share": 0.1, "header": "a"}}, "header is of the canary"),
    ],
)
def test_what_is_no_rollout_is_refused_by_its_key(document, said):
    with pytest.raises(UsageError) as caught:
        Rollout.parse(document, "here")
    assert said in str(caught.value)


def test_a_file_counts_key_by_key_before_the_settings(tmp_path):
    settings = Settings(version_labels='{"stable": 1}', canary='{"version": 2, "share": 0.5}')
    assert Rollout.of(settings, {}, "f").canary == CandidateVersion(2, 0.5)
    found = Rollout.of(settings, {"canary": None, "shadow": {"label": "stable", "share": 1}}, "f")
    assert found == Rollout({"stable": 1}, None, CandidateVersion("stable", 1.0))
    with pytest.raises(UsageError, match=r"setting canary: '\{' is not JSON"):
        Rollout.of(Settings(canary="{"), {}, "f")
    with pytest.raises(UsageError, match="settings canary: the version of canary"):
        Rollout.of(Settings(canary='{"version": "x", "share": 1}'), {}, "f")


def test_a_settings_file_takes_tables(tmp_path):
    (tmp_path / "s.toml").write_text(
        "[models.digits]\nversion_labels = {stable = 1}\ncanary = {version = 2, share = 0.1}\n"
    )
    settings = load(file=tmp_path / "s.toml", environ={}).for_model("digits", {})
    assert Rollout.of(settings, {}, "f") == Rollout({"stable": 1}, CandidateVersion(2, 0.1))


def test_the_file_beside_the_versions(tmp_path):
    assert read_rollout_file(tmp_path) == {}
    assert read_rollout_file(tmp_path / "model.onnx") == {}
    file = tmp_path / "rollout.json"
    file.write_text(json.dumps({"canary": None}))
    assert read_rollout_file(tmp_path) == {"canary": None}
    for text, said in (
        ("{", "is not JSON"),
        ("[]", "is no JSON object"),
        ("[" * 5000, "is not JSON"),
        (" " * 70000, "more than"),
    ):
        file.write_text(text)
        with pytest.raises(UsageError, match=said):
            read_rollout_file(tmp_path)
    file.unlink()
    file.mkdir()
    with pytest.raises(UsageError, match="cannot be read: Is a directory"):
        read_rollout_file(tmp_path)
