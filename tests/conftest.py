"""Fixtures shared by all tests: where the real models and photos are."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

import pytest

from cpuserve.settings import Settings
from tests.isa import has_vnni, lacks_bf16_kernels

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def settings_without_bf16_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let settings that a test makes by hand ask for f32 where a limit leaves no kernels for bf16."""
    if not lacks_bf16_kernels():
        return
    made = Settings.__init__

    def make(self: Settings, *given: Any, **named: Any) -> None:
        made(self, *given, **{"precision": "f32", **named})

    monkeypatch.setattr(Settings, "__init__", make)


@pytest.fixture(autouse=True)
def warnings_are_heard(caplog: pytest.LogCaptureFixture) -> None:
    """Let a test see warnings that a library, imported by a test before it, has turned off."""
    caplog.set_level(logging.WARNING)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The test data; skips with a reason where there is none, fails in CI."""
    folder = Path(os.environ.get("CPUSERVE_TEST_DATA", ROOT.parent / "shared" / "data")).resolve()
    if not (folder / "expected.json").is_file():
        reason = f"no test data in {folder}: set CPUSERVE_TEST_DATA"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return folder


@pytest.fixture(scope="session")
def expected(data_dir: Path) -> dict[str, Any]:
    """The right answers that belong to the test data."""
    answers: dict[str, Any] = json.loads((data_dir / "expected.json").read_text())
    return answers


# Where a CPU has no VNNI, OpenVINO adds int8 products in 16 bits, which saturate: probabilities of models
# that were trained for uint8 then differ by up to 0.1 from the expected ones.
_NEEDS_VNNI = (
    "test_answers.py::test_all_photos_and_formats_answer_as_expected[mobilenet_v2_1.0_224_quant]",
    "test_answers.py::test_visual_wake_words",
    "test_pull.py::test_int8_answers_are_probabilities_in_the_graph",
    "test_pull.py::test_a_row_has_the_same_answer_in_any_batch[vww_96_int8]",
    "test_convert.py::test_classifiers_answer_as_expected[mobilenet_v2_1.0_224_quant.tflite]",
    "test_convert.py::test_visual_wake_words_answer_as_expected[vww_96_int8.tflite]",
)


# Tests of these folders are numeric, but for these files and tests; those of others say so by the marker.
_NUMERIC = (ROOT / "tests" / "authoring", ROOT / "tests" / "serving")
COMPARE_NO_NUMBERS = {
    "authoring": (
        "test_catalog.py",
        "test_convert.py::test_a_model_that_random_rows_are_too_small_for_is_published",
        "test_convert.py::test_a_source_that_is_named_is_kept",
        "test_convert.py::test_the_users_words_overrule_the_sources_card_and_the_rest_stays",
        "test_convert.py::test_two_outputs_of_one_tensor_are_reported_apart",
        "test_convert.py::test_variable_sides_are_noted_and_not_counted",
        "test_convert.py::test_whatever_the_original_framework_does_the_model_is_published",
        "test_convert.py::test_without_a_framework_to_run_the_report_says_why",
        "test_cut.py::test_tails_that_are_refused",
        "test_cut.py::test_whatever_a_tail_raises_is_said_of_it",
        "test_download.py",
        "test_nncf_quantizer.py::test_nncf_makes_no_core_of_its_own",
        "test_nncf_quantizer.py::test_nobody_is_told_and_no_identifier_is_left",
        "test_report_process.py",
        "test_zoo.py::test_sizes_are_those_of_the_report",
    ),
    "serving": (
        "test_admission.py",
        "test_batch_default.py",
        "test_crash_check.py",
        "test_decoder_guard.py",
        "test_find_servers.py",
        "test_log.py",
        "test_model_snapshot.py",
        "test_model_table.py",
        "test_openvino_core.py",
        "test_pool.py",
        "test_reload_control.py",
        "test_removed_models.py",
        "test_statistics.py",
        "test_trace_ring.py",
        "test_worker_table.py",
    ),
}


def _compares_numbers(item: pytest.Item) -> bool:
    """Whether a test is numeric by its folder."""
    for folder in _NUMERIC:
        if item.path.is_relative_to(folder):
            file = item.path.name
            test = f"{file}::{getattr(item, 'originalname', item.name)}"
            return not {file, test} & {*COMPARE_NO_NUMBERS[folder.name]}
    return False


def pytest_configure() -> None:
    """Make f32 the precision of servers and commands where a limit takes bf16 away."""
    if lacks_bf16_kernels():
        os.environ.setdefault("CPUSERVE_PRECISION", "f32")


@pytest.hookimpl(tryfirst=True)  # before -m selects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is numeric, and skip, with the reason, what this CPU computes otherwise."""
    vnni = has_vnni()
    for item in items:
        if _compares_numbers(item):
            item.add_marker(pytest.mark.numeric)
        if not vnni and item.nodeid.endswith(_NEEDS_VNNI):
            item.add_marker(pytest.mark.skip(reason="no VNNI: int8 products saturate"))
