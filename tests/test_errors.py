"""Messages as clients may read them."""

from __future__ import annotations

from pathlib import Path

import pytest

from cpuserve.errors import without_directories

ROOT = Path("/srv/my models")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("/srv/my models/a/1/model.xml cannot be read", "a/1/model.xml cannot be read"),
        ('bad: "/srv/my models/a/1/model.bin"', 'bad: "a/1/model.bin"'),
        ("cannot list /srv/my models: Permission denied", "cannot list my models: Permission denied"),
        ("/srv/my models2/a and /x/srv/my models/a", "my models2/a and my models/a"),
        ("reading:/opt/python/lib/x.py failed", "reading:x.py failed"),
        ("File '/usr/lib/python3/site-packages/cv2/load.so'", "File 'load.so'"),
        ("ask at http://127.0.0.1:80/v2/models", "ask at http://127.0.0.1:80/v2/models"),
        ("1/2 of them and/or none", "1/2 of them and/or none"),
    ],
)
def test_files_are_named_without_their_directories(text, told):
    assert without_directories(text, ROOT) == told


def test_the_root_of_all_files_is_no_name_for_them():
    assert without_directories("/a/b/c.xml is bad", Path("/")) == "c.xml is bad"
