"""What tests of several commands share."""

from __future__ import annotations

import pytest

from cpuserve.cli import main
from cpuserve.server import gunicorn_server as server
from cpuserve.settings import Settings


@pytest.fixture
def serve(monkeypatch, capsys):
    """Call with words of `cpuserve serve`; gives settings (None if refused), exit code and stderr."""
    seen: list[Settings] = []

    class Server:
        def __init__(self, settings, _profile, _said):
            seen.append(settings)

        def run(self):
            pass

    monkeypatch.setattr(server, "Server", Server)

    def call(*words, command=("serve",)):
        seen.clear()
        with pytest.raises(SystemExit) as end:
            main([*command, *words])
        return (seen[0] if seen else None), end.value.code, capsys.readouterr().err

    return call
