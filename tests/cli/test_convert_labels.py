"""Labels for `cpuserve convert`, from a file or from the command line."""

from __future__ import annotations

import pytest

from cpuserve.cli.convert import _labels
from cpuserve.errors import UsageError


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_the_first_label_of_a_file_has_no_byte_order_mark(tmp_path, encoding):
    file = tmp_path / "labels.txt"
    file.write_bytes("Kätzchen\r\ndog, hound\r\n".encode(encoding))
    assert _labels(str(file)) == ("Kätzchen", "dog")


def test_a_file_of_another_encoding_is_named(tmp_path):
    file = tmp_path / "labels.txt"
    file.write_bytes("cat\n".encode("utf-16"))
    with pytest.raises(UsageError, match=r"labels\.txt cannot be read"):
        _labels(str(file))
