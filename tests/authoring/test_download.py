"""Downloads against a real HTTP server that cuts lines, forgets ranges and serves wrong files."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from cpuserve.authoring.catalog import CatalogFile
from cpuserve.authoring.download import Downloader, default_cache
from cpuserve.errors import ChecksumError, DownloadError

CONTENT = bytes(range(256)) * 4096  # 1 MiB
SOURCE = CatalogFile("model.tflite", len(CONTENT), hashlib.sha256(CONTENT).hexdigest(), "Apache-2.0")


@dataclass
class Site:
    """What the server answers with, and what it was asked."""

    content: bytes = CONTENT
    cuts: list[int] = field(default_factory=list)  # after how many bytes the next connections end
    statuses: list[int] = field(default_factory=list)  # errors the next requests get
    ranges: bool = True
    length: bool = True
    asked: list[str | None] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    url: str = ""


@pytest.fixture
def site() -> Iterator[Site]:
    state = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            state.asked.append(wanted)
            state.paths.append(self.path)
            if state.statuses:
                self.send_error(state.statuses.pop(0))
                return
            start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and state.ranges else 0
            if start >= len(state.content):
                self.send_error(416)
                return
            body = state.content[start:]
            self.send_response(206 if start else 200)
            if start:
                last = len(state.content) - 1
                self.send_header("Content-Range", f"bytes {start}-{last}/{len(state.content)}")
            if state.length:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: state.cuts.pop(0)] if state.cuts else body)

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        state.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield state
        server.shutdown()
        thread.join()


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def downloader(site: Site, cache: Path) -> Downloader:
    return Downloader(cache=cache, mirror=site.url, backoff_s=0.0, timeout_s=10.0)


def files(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.iterdir())


def test_a_file_arrives_and_is_kept(site: Site, cache: Path, downloader: Downloader):
    seen: list[tuple[int, int]] = []
    file = downloader.fetch(SOURCE, lambda done, total: seen.append((done, total)))
    assert file.read_bytes() == CONTENT
    assert file.suffix == ".tflite"
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert downloader.fetch(SOURCE) == file
    assert site.paths == ["/model.tflite"]
    assert files(cache) == [file.name]


def test_without_a_mirror_the_url_of_the_source_is_asked(site: Site, cache: Path):
    source = CatalogFile(
        SOURCE.file, SOURCE.bytes, SOURCE.sha256, SOURCE.licence, url=f"{site.url}/a/commit/model.tflite"
    )
    assert Downloader(cache=cache).fetch(source).read_bytes() == CONTENT
    assert site.paths == ["/a/commit/model.tflite"]


def test_a_cut_line_is_resumed_where_it_ended(site: Site, downloader: Downloader):
    site.cuts = [300_000, 200_000]
    assert downloader.fetch(SOURCE).read_bytes() == CONTENT
    assert site.asked == [None, "bytes=300000-", "bytes=500000-"]


def test_a_cut_line_without_a_length_is_noticed_too(site: Site, downloader: Downloader):
    site.cuts, site.length = [300_000], False
    assert downloader.fetch(SOURCE).read_bytes() == CONTENT
    assert site.asked == [None, "bytes=300000-"]


def test_the_next_run_resumes_what_the_last_one_kept(site: Site, cache: Path, downloader: Downloader):
    site.cuts = [300_000]
    site.statuses = []
    with pytest.raises(
        DownloadError, match=r"1 attempts failed .*300000 of 1048576 bytes are kept.*--mirror DIR"
    ):
        Downloader(cache=cache, mirror=site.url, attempts=1).fetch(SOURCE)
    assert [name.endswith("model.tflite.part") for name in files(cache)] == [True]
    assert downloader.fetch(SOURCE).read_bytes() == CONTENT
    assert site.asked == [None, "bytes=300000-"]


def test_a_server_without_ranges_begins_again(site: Site, downloader: Downloader):
    site.cuts, site.ranges = [300_000], False
    assert downloader.fetch(SOURCE).read_bytes() == CONTENT


def test_a_line_that_gets_further_is_not_given_up(site: Site, downloader: Downloader):
    site.cuts = [100_000] * 8
    assert downloader.fetch(SOURCE).read_bytes() == CONTENT
    assert len(site.asked) == 9


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_server_in_trouble_is_asked_again(site: Site, downloader: Downloader, status: int):
    site.statuses = [status, status]
    assert downloader.fetch(SOURCE).read_bytes() == CONTENT
    assert len(site.asked) == 3


def test_a_server_that_stays_in_trouble_is_given_up(site: Site, downloader: Downloader):
    site.statuses = [503] * 9
    with pytest.raises(
        DownloadError, match=r"4 attempts failed \(503 Service Unavailable\)\. Machines without"
    ):
        downloader.fetch(SOURCE)
    assert len(site.asked) == 4


def test_a_file_that_is_not_there_is_not_asked_for_twice(site: Site, cache: Path, downloader: Downloader):
    site.statuses = [404]
    with pytest.raises(DownloadError, match=r"/model.tflite answered 404 Not Found.*CPUSERVE_MIRROR"):
        downloader.fetch(SOURCE)
    assert len(site.asked) == 1
    assert files(cache) == []


def test_no_server_at_all_is_an_error_that_names_the_way_out(cache: Path, site: Site):
    gone = Downloader(cache=cache, mirror="http://127.0.0.1:9", attempts=2, backoff_s=0.0)
    with pytest.raises(DownloadError, match=r"2 attempts failed .*refused.*--mirror DIR"):
        gone.fetch(SOURCE)


@pytest.mark.parametrize(
    "wrong",
    [CONTENT[:-1] + b"x", CONTENT[:500_000], CONTENT + b"more", b"<html>sign in</html>"],
    ids=["another", "shorter", "longer", "page"],
)
def test_a_wrong_file_is_refused_and_nothing_is_left(
    site: Site, cache: Path, downloader: Downloader, wrong: bytes
):
    site.content = wrong
    with pytest.raises(ChecksumError) as refusal:
        downloader.fetch(SOURCE)
    assert f"expected {SOURCE.sha256}" in str(refusal.value)
    if len(wrong) <= SOURCE.bytes:
        assert f"got {hashlib.sha256(wrong).hexdigest()}" in str(refusal.value)
    assert site.url in str(refusal.value)
    assert files(cache) == []


def test_a_wrong_part_costs_one_more_transfer_not_an_error(site: Site, cache: Path, downloader: Downloader):
    site.cuts = [300_000]
    with pytest.raises(DownloadError):
        Downloader(cache=cache, mirror=site.url, attempts=1).fetch(SOURCE)
    (part,) = cache.iterdir()
    part.write_bytes(b"x" * 300_000)
    assert downloader.fetch(SOURCE).read_bytes() == CONTENT
    assert site.asked == [None, "bytes=300000-", None]


def test_a_wrong_server_and_a_longer_part_end_in_a_refusal(site: Site, cache: Path, downloader: Downloader):
    site.cuts = [300_000]
    with pytest.raises(DownloadError):
        Downloader(cache=cache, mirror=site.url, attempts=1).fetch(SOURCE)
    site.content = b"short"  # answers 416 to the range
    with pytest.raises(ChecksumError):
        downloader.fetch(SOURCE)
    assert files(cache) == []


def test_a_damaged_file_in_the_cache_is_fetched_again(site: Site, downloader: Downloader):
    file = downloader.fetch(SOURCE)
    file.write_bytes(CONTENT[::-1])
    assert downloader.fetch(SOURCE).read_bytes() == CONTENT


def test_a_mirror_directory_is_used_in_place_and_one_level_deep(tmp_path: Path, cache: Path):
    (tmp_path / "mirror" / "deeper").mkdir(parents=True)
    downloader = Downloader(cache=cache, mirror=str(tmp_path / "mirror"))
    with pytest.raises(DownloadError, match=r"has no file model.tflite.*--mirror DIR"):
        downloader.fetch(SOURCE)
    deep = tmp_path / "mirror" / "deeper" / SOURCE.file
    deep.write_bytes(CONTENT)
    assert downloader.fetch(SOURCE) == deep
    top = tmp_path / "mirror" / SOURCE.file
    top.write_bytes(CONTENT)
    assert downloader.fetch(SOURCE) == top
    assert not cache.exists()


def test_a_wrong_file_in_a_mirror_directory_is_refused_but_not_deleted(tmp_path: Path, cache: Path):
    (tmp_path / SOURCE.file).write_bytes(b"mine")
    with pytest.raises(ChecksumError, match=r"model\.tflite of the catalogue"):
        Downloader(cache=cache, mirror=str(tmp_path)).fetch(SOURCE)
    assert (tmp_path / SOURCE.file).read_bytes() == b"mine"


def test_a_source_that_is_in_mirrors_only_says_why(cache: Path):
    source = CatalogFile("graph.pb", 1, "0" * 64, "Apache-2.0", mirror_only="reconstructed here")
    with pytest.raises(DownloadError, match=r"reconstructed here.*--mirror DIR"):
        Downloader(cache=cache).fetch(source)


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, site: Site):
    (tmp_path / "file").write_text("")
    with pytest.raises(DownloadError, match=r"cannot write to the cache .*XDG_CACHE_HOME"):
        Downloader(cache=tmp_path / "file", mirror=site.url).fetch(SOURCE)
    assert site.asked == []


def test_the_cache_follows_xdg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache() == tmp_path / "cpuserve"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert default_cache() == Path.home() / ".cache" / "cpuserve"
