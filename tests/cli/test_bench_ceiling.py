"""`cpuserve bench ceiling`: what would make the comparison mean nothing is refused."""

import pytest

from cpuserve.cli import main


@pytest.mark.parametrize("by_file", [False, True])
def test_a_result_cache_is_refused(tmp_path, monkeypatch, capsys, by_file):
    words = ["bench", "ceiling", "digits"]
    if by_file:
        (tmp_path / "c.toml").write_text("[models.digits]\nresult_cache_bytes = 1000\n")
        words += ["--config", str(tmp_path / "c.toml")]
    else:
        monkeypatch.setenv("CPUSERVE_RESULT_CACHE_BYTES", "1000")
    with pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code == 2
    assert "result_cache_bytes = 0" in capsys.readouterr().err
