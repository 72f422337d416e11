"""What workers say of their models is read whole by others, and nobody hears the dead."""

import os

from cpuserve.serving.model_table import ModelReport, ModelTable
from cpuserve.serving.reload_control import ReloadControl


def test_others_read_what_a_worker_says_until_it_is_gone():
    states = ModelTable(rows=2)
    mine, others = ModelReport("m", 1, "READY", ""), ModelReport("m", 1, "UNAVAILABLE", 'KeyError: "é"')
    states.write(0, [mine])
    ready_r, ready_w = os.pipe()
    end_r, end_w = os.pipe()
    child = os.fork()
    if child == 0:
        states.write(1, [others])
        os.write(ready_w, b"x")
        os.read(end_r, 1)
        os._exit(0)
    os.read(ready_r, 1)
    assert states.read() == [mine, others]
    os.write(end_w, b"x")
    os.waitpid(child, 0)
    assert states.read() == [mine]


def test_failures_are_told_however_many_models_there_are():
    states = ModelTable(rows=1)
    many = [ModelReport(f"model-{number}", 1, "READY", "") for number in range(5000)]
    states.write(0, [*many, ModelReport("broken", 1, "UNAVAILABLE", "x" * 10_000)])
    told = states.read()
    assert told[0] == ModelReport("broken", 1, "UNAVAILABLE", "x" * 400)
    assert 500 < len(told) < 5000


def test_a_text_that_is_half_written_is_not_read():
    states = ModelTable(rows=1)
    states.write(0, [ModelReport("m", 1, "READY", "")])
    states._block.rows[0].text[3] ^= 1
    assert states.read() == []


def test_loads_are_asked_for_by_name_and_wish():
    control = ReloadControl(rows=1)
    first = control.load("m")
    assert control.table.load_was_asked("m", 0, first)
    assert not control.table.load_was_asked("other", 0, first)
    assert not control.table.load_was_asked("m", first, first)
    later = max(control.rescan() for _ in range(10))
    assert not control.table.load_was_asked("m", first, later)
    many = max(control.rescan() for _ in range(100))
    assert control.table.load_was_asked("other", first, many)  # nobody can tell any more
