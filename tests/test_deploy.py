"""The files in deploy/: the programs they are for take them, and they agree with the server's settings."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from cpuserve.settings import Settings
from tests.conftest import ROOT
from tests.deploy.programs import installed
from tests.servers import free_port

DEPLOY = ROOT / "deploy"


def unit() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=False, interpolation=None, delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # systemd's keys have capitals
    parser.read(DEPLOY / "cpuserve.service")
    return parser


def text_of(name: str) -> str:
    return (DEPLOY / name).read_text()


def accepted(*words: str, **environment: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, env=environment, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    analyze = installed("systemd-analyze")
    path = tmp_path / "cpuserve.service"
    runnable = text_of("cpuserve.service").replace("/usr/local/bin/cpuserve", shutil.which("true") or "")
    for change, good in (("", True), ("KillMode=softly\n", False)):
        path.write_text(runnable.replace("KillMode=mixed\n", change or "KillMode=mixed\n"))
        done = subprocess.run(
            [analyze, "verify", path], capture_output=True, text=True, timeout=60, check=False
        )
        said = [line for line in done.stderr.splitlines() if "cpuserve.service" in line]
        assert (said == []) == good, done.stderr


def test_the_unit_agrees_with_the_settings() -> None:
    service = unit()["Service"]
    words = service["ExecStart"].split()
    timeout_s = float(words[words.index("--shutdown-timeout-s") + 1])
    assert timeout_s == Settings().shutdown_timeout_s
    assert float(service["TimeoutStopSec"]) > timeout_s
    assert service["ExecReload"] == "/bin/kill -HUP $MAINPID"
    assert (service["KillMode"], service["KillSignal"]) == ("mixed", "SIGTERM")
    for key in ("NoNewPrivileges", "PrivateTmp", "ProtectHome", "DynamicUser", "LockPersonality"):
        assert service[key] == "yes"
    assert service["ProtectSystem"] == "strict"
    assert service["CapabilityBoundingSet"] == ""
    assert "MemoryDenyWriteExecute" not in service  # the compiler of OpenVINO writes code


def test_nginx_takes_its_file(tmp_path: Path) -> None:
    nginx = installed("nginx")
    site = tmp_path / "cpuserve.conf"
    # `nginx -t` binds the ports
    site.write_text(re.sub(r"listen \d+", lambda _: f"listen 127.0.0.1:{free_port()}", text_of("nginx.conf")))
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    places = "".join(f"{kind}_temp_path {tmp_path}/{kind};" for kind in kinds)
    main = tmp_path / "nginx.conf"
    main.write_text(
        f"pid {tmp_path}/pid; error_log stderr; events {{}}\n"
        f"http {{ access_log off; {places} include {site}; }}\n"
    )
    accepted(nginx, "-t", "-q", "-e", "stderr", "-c", str(main))
    site.write_text(site.read_text().replace("proxy_read_timeout", "proxy_reed_timeout"))
    with pytest.raises(AssertionError, match="proxy_reed_timeout"):
        accepted(nginx, "-t", "-q", "-e", "stderr", "-c", str(main))


def test_caddy_takes_its_file(tmp_path: Path) -> None:
    caddy = installed("caddy")
    places = {"HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}
    words = ("validate", "--adapter", "caddyfile", "--config")
    accepted(caddy, *words, str(DEPLOY / "Caddyfile"), **places)
    broken = tmp_path / "Caddyfile"
    broken.write_text(text_of("Caddyfile").replace("dial_timeout", "dial_timeoot"))
    with pytest.raises(AssertionError, match="dial_timeoot"):
        accepted(caddy, *words, str(broken), **places)


def test_the_proxies_agree_with_the_settings() -> None:
    settings, nginx, caddy = Settings(), text_of("nginx.conf"), text_of("Caddyfile")
    assert re.findall(r"client_max_body_size (\d+);", nginx) == [str(settings.max_body_bytes)] * 2
    assert re.findall(r"max_size (\d+)", caddy) == [str(settings.max_body_bytes)]
    kept = [
        *re.findall(r"keepalive_timeout (\d+)s", nginx),
        *re.findall(r"keepalive (\d+)s", caddy),
    ]
    assert len(kept) == 2
    assert all(int(seconds) < settings.keep_alive_s for seconds in kept)
    assert float(re.findall(r"client_body_timeout (\d+)s", nginx)[0]) == settings.request_timeout_s
    directives = [line.split("#")[0] for line in nginx.splitlines()]
    retried = [line.split()[1:] for line in directives if "_next_upstream " in line]
    assert retried
    assert not {word.strip(";") for words in retried for word in words} - {"error", "timeout"}
    assert "lb_try_duration" not in "".join(line.split("#")[0] for line in caddy.splitlines())
