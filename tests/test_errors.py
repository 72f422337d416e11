"""How errors are answered, and what of their messages clients read."""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path

import pytest

from cpuserve import errors
from cpuserve.errors import CpuserveError, ModelLoadError, UnknownModel, last_line, without_directories

ROOT = Path("/srv/my models")
GRPC_CODES = {
    *("CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS"),
    *("PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE"),
    *("UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED"),
}


def tree(kind: type[CpuserveError], depth: int = 0) -> Iterator[tuple[int, str, int, str]]:
    """The classes of the module below one, as its docstring draws them: depth, name, status, code."""
    drawn = not kind.__name__.startswith("_")
    if drawn:
        yield depth, kind.__name__, kind.status, kind.grpc_code
    for below in kind.__subclasses__():
        if below.__module__ == errors.__name__:
            yield from tree(below, depth + drawn)


def test_the_drawn_tree_is_the_one_of_the_classes():
    rows = re.findall(
        r"^    ((?:[│ ]   )*(?:[├└]── )?)(\w+) +(\d{3})  ([A-Z_]+) ", errors.__doc__, re.MULTILINE
    )
    drawn = [(len(lines) // 4, name, int(status), code) for lines, name, status, code in rows]
    assert drawn == list(tree(CpuserveError))
    functions = {"install_command", "last_line", "pip_install", "without_directories"}
    assert {name for _, name, _, _ in drawn} | functions == set(errors.__all__)


def test_every_error_has_a_status_of_http_and_a_code_of_grpc():
    for _, name, status, code in tree(CpuserveError):
        # 499 is that of logs, for answers that nobody reads
        assert status == 499 or HTTPStatus(status) >= 400, name
        assert code in GRPC_CODES, name
        assert (code in ("INTERNAL", "UNAVAILABLE", "DEADLINE_EXCEEDED", "UNIMPLEMENTED")) == (
            status >= 500
        ), name


def test_clients_read_the_message_of_a_request_whole_and_others_without_directories():
    assert UnknownModel("no /a/b/c").public_text == "no /a/b/c"
    assert ModelLoadError("/a/b/c.xml is bad").public_text == "c.xml is bad"


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


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("Exception from a.cpp:54:\nno kernel for node Pool_2\n\n\n", "no kernel for node Pool_2"),
        ("", "RuntimeError"),
    ],
)
def test_the_reason_of_openvino_is_its_last_line(text, line):
    assert last_line(RuntimeError(text)) == line


@pytest.mark.parametrize(
    "error",
    [
        UnknownModel("no model 'digit'", "digit"),
        errors.MissingExtra("this needs NNCF", "quantize"),
        errors.UsageError("no"),
    ],
)
def test_another_process_has_an_error_as_it_is(error):
    again = pickle.loads(pickle.dumps(error))  # noqa: S301  # of this test
    assert (type(again), str(again), again.__dict__) == (type(error), str(error), error.__dict__)
