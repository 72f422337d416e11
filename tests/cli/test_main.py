"""The command as a whole: exit codes, suggestions, and what Ctrl-C does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import click
import pytest

from cpuserve import cli
from cpuserve.cli.foreign_words import SuggestingChoice
from cpuserve.errors import CpuserveError, MissingExtra, UsageError, install_command
from tests.interrupts import interruptible


def run(*words, **more):
    command = [sys.executable, "-m", "cpuserve", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, **more)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (CpuserveError("it failed"), 1),
        (UsageError("a wrong option"), 2),
        (MissingExtra("this needs NNCF", "quantize"), 4),
        (click.UsageError("click's own"), 2),
        (MissingExtra("this needs trackers", "", "pip install it"), 4),
        (PermissionError(13, "Permission denied", "/root/x"), 1),
        (OSError(28, "No space left on device"), 1),
        (click.Abort(), 130),
        (KeyboardInterrupt(), 130),
    ],
)
def test_every_kind_of_end_has_one_exit_code(monkeypatch, capsys, error, code):
    @click.command()
    def command():
        raise error

    monkeypatch.setattr(cli, "cli", command)
    with pytest.raises(SystemExit) as ended:
        cli.main([])
    said = capsys.readouterr().err
    assert ended.value.code == code
    assert "Traceback" not in said
    if isinstance(error, OSError):
        place = f"{error.filename}: " if error.filename else ""
        assert said == f"cpuserve: error: {place}{error.strerror}\n"
    assert isinstance(error, OSError) or str(error) in said


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["pull", "--json"]])
def test_output_that_cannot_be_written_is_one_line(words):
    with open("/dev/full", "w") as full:  # noqa: PTH123
        command = [sys.executable, "-m", "cpuserve", *words]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "cpuserve: error: No space left on device\n")


def test_a_copy_that_fails_names_the_file_that_is_written(monkeypatch, capsys, tmp_path):
    def full(source, target):
        raise OSError(28, "No space left on device", str(source), None, str(target))

    monkeypatch.setattr("shutil.copyfile", full)
    with pytest.raises(SystemExit) as ended:
        cli.main(["pull", "digits", "--model-repository", str(tmp_path / "models")])
    said = capsys.readouterr().err
    assert ended.value.code == 1
    assert said.startswith(f"cpuserve: error: {tmp_path}/models/")
    assert "example" not in said


@pytest.mark.parametrize("words", [["--help"], ["serve", "--help"], ["pull"], ["pull", "--json"]])
def test_a_reader_that_has_enough_is_no_error(words):
    """As `cpuserve pull | head -1`, where the reader ends before anything is written."""
    ours, theirs = os.pipe()
    os.close(ours)
    command = [sys.executable, "-m", "cpuserve", *words]
    done = subprocess.run(command, stdout=theirs, stderr=subprocess.PIPE, text=True, check=False)
    os.close(theirs)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.parametrize(
    "words",
    [
        ["predict", "mobilenet_v2", "x.png"],
        ["serve", "mobilenet_v2/1"],
        ["tune", "mobilenet_v2_1.0_224_quant"],
        ["quantize", "mobilenet_v2", "--calibration", "."],
        ["cutpoints", "mobilenet_v2"],
        ["bench", "compare", "vww_96"],
        ["bench", "ceiling", "vww_96"],
        ["bench", "serve", "vww_96"],
        ["video", "infer", "--model", "deeplabv3_257", "x.mp4"],
        ["test-reload", "digits", "x.png"],
        ["tune", "export", "digits", "--to", "env"],
    ],
)
def test_a_model_of_the_catalogue_that_is_not_here_says_how_to_get_it(tmp_path, monkeypatch, capsys, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.png").write_bytes(b"")
    (tmp_path / "x.mp4").write_bytes(b"")
    with pytest.raises(SystemExit) as ended:
        cli.main(words)
    name = next(word for word in words if word.startswith(("mob", "vww", "deep", "dig"))).partition("/")[0]
    assert ended.value.code in (1, 2)
    assert capsys.readouterr().err.rstrip().endswith(f"; not here yet: cpuserve pull {name}")


def test_other_missing_models_are_not_said_to_be_in_the_catalogue(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        cli.main(["predict", "nope", "x.png"])
    assert "cpuserve pull" not in capsys.readouterr().err


def test_a_command_that_is_done_or_shows_help_ends_with_0(monkeypatch):
    for words in ([], ["--help"]):
        monkeypatch.setattr(cli, "cli", click.Command("done", callback=lambda: "a value is no exit code"))
        with pytest.raises(SystemExit) as ended:
            cli.main(words)
        assert ended.value.code == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["serv"], "no command 'serv'; did you mean serve?"),
        (["bench", "ceilin"], "no command 'ceilin'; did you mean ceiling?"),
        (["xyzzy"], "no command 'xyzzy'; commands: serve, pull"),
    ],
)
def test_an_unknown_command_is_answered_with_those_that_are_there(words, said):
    done = run(*words)
    assert done.returncode == 2
    assert said in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["bench", "serve", "-m", "digits"], "a flag: cpuserve bench serve URL|@REGISTRY|MODEL\n"),
        (["bench", "-m", "digits"], "a flag: cpuserve bench COMMAND MODEL\n"),
        (["serve", "-m", "digits"], "a flag: cpuserve serve [MODEL...]\n"),
        (["predict", "-m", "digits"], "a flag: cpuserve predict MODEL IMAGE|DIR...\n"),
        (["convert", "a.onnx", "--precision", "fp16"], "Did you mean f16?"),
        (["bench", "serve", "digits", "--protocol", "tensor"], "Did you mean tensors?"),
        (["bench", "serve", "digits", "-d", "CPU"], "Instead: CPU is the only device"),
        (["serve", "-hint", "throughput"], "no option -hint. Instead: --mode latency or --mode throughput"),
        (["bench", "serve", "digits", "-nireq=4"], "no option -nireq. Instead: --concurrency-range"),
        (["serve", "--precision", "fp16"], "Did you mean f16?"),
        (["serve", "--wrokers", "2"], "--workers"),
    ],
)
def test_words_of_other_tools_are_answered_with_those_of_this_one(words, said):
    done = run(*words)
    assert done.returncode == 2
    assert said in done.stderr


def test_every_choice_suggests_the_word_that_was_meant():
    def choices(command, path):
        for name in command.list_commands(click.Context(command)) if isinstance(command, click.Group) else ():
            yield from choices(command.get_command(click.Context(command), name), f"{path} {name}")
        yield from (
            (f"{path} {one.name}", type(one.type))
            for one in command.params
            if isinstance(one.type, click.Choice)
        )

    found = [*choices(cli.cli, "cpuserve")]
    assert len(found) > 20
    assert [name for name, kind in found if kind is not SuggestingChoice] == []


def test_the_arguments_of_a_program_that_is_run_are_its_own():
    program = [sys.executable, "-c", "import sys; print(sys.argv[1])", "-hint"]
    assert run("run", "--", *program).stdout.endswith("-hint\n")


def test_the_version_names_openvinos():
    said = run("--version").stdout
    assert said.startswith("cpuserve ")
    assert ", OpenVINO 20" in said


def test_ctrl_c_ends_any_command_with_130(tmp_path):
    picture = tmp_path / "picture.png"
    os.mkfifo(picture)
    command = [sys.executable, "-m", "cpuserve", "predict", "digits", str(picture)]
    with interruptible():
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    with picture.open("wb"):  # opens when the command reads it, which then waits
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in said


def test_ctrl_c_while_modules_are_loaded_ends_with_130_too(tmp_path):
    (tmp_path / "click.py").write_text("raise KeyboardInterrupt")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-m", "cpuserve", "models"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "cpuserve: ended by Ctrl-C\n")


def test_the_command_for_an_extra_suits_the_environment(monkeypatch):
    found = {"python": sys.executable, "uv": "/bin/uv"}
    monkeypatch.setattr("shutil.which", found.get)
    assert install_command("tune") == "python -m pip install 'cpuserve[tune]'"
    found["python"] = "another-python"
    assert install_command("tune") == f"{sys.executable} -m pip install 'cpuserve[tune]'"
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert install_command("tune") == f"uv pip install --python {sys.executable} 'cpuserve[tune]'"


def test_a_file_whose_name_begins_with_a_dash_is_told_apart_from_an_option(tmp_path, monkeypatch):
    (tmp_path / "-dash.mp4").touch()
    monkeypatch.chdir(tmp_path)
    done = run("video", "infer", "-dash.mp4", "--model", "digits")
    assert done.returncode == 2
    assert "Instead: a file whose name begins with - is written ./-dash.mp4" in done.stderr
