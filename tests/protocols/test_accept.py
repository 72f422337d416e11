"""The offer that an ``Accept`` header chooses."""

from __future__ import annotations

import pytest

from cpuserve.protocols.accept import best_offer

JSON, PNG = "application/json", "image/png"


@pytest.mark.parametrize(
    ("header", "chosen"),
    [
        ("*/*", JSON),
        ("application/json", JSON),
        ("application/json; charset=utf-8", JSON),
        ("Application/JSON;charset=UTF-8", JSON),
        ("application/json;indent=2;q=0.5, image/png;q=0.4", JSON),
        ("application/json;q=0.4, image/png;q=0.5", PNG),
        ("image/png;level=9", PNG),
        ("image/*", PNG),
        ("image/*;q=0.8, */*;q=0.9", JSON),
        ("text/html, application/xhtml+xml, application/xml;q=0.9, image/png, */*;q=0.8", PNG),
        ("application/json;q=0, */*", PNG),
        ("application/json;q=0, image/png;q=0, */*", None),
        ("text/html", None),
        ("text/html, *;q=0.1", JSON),
        ("application/*", JSON),
        (", ,image/png", PNG),
        ("application/json;q=0", None),
        ("", None),
    ],
)
def test_parameters_and_qualities(header, chosen):
    assert best_offer(header, [JSON, PNG]) == chosen
