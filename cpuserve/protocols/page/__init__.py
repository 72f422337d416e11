"""Serves the web page and the OpenAPI description."""

from __future__ import annotations

from pathlib import Path

from cpuserve.protocols.call import Call, Reply, json_reply

__all__ = ["Page"]

_HERE = Path(__file__).parent
_SCRIPT, _STYLE = "text/javascript; charset=utf-8", "text/css; charset=utf-8"
_PAGE = {
    "app.js": _SCRIPT,
    "history.js": _SCRIPT,
    "picture.js": _SCRIPT,
    "clock.js": _SCRIPT,
    "style.css": _STYLE,
}
_ONLY_OURS = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src blob: data:"
)


class Page:
    """The routes of the web page and of the OpenAPI description."""

    def page(self, _call: Call) -> Reply:
        """``GET /``: the web page, which shows models and seats and tries a picture."""
        policy = ("Content-Security-Policy", f"{_ONLY_OURS}; frame-ancestors 'none'")
        return _file("index.html", "text/html; charset=utf-8", policy)

    def part(self, _call: Call, name: str) -> Reply:
        """``GET /page/NAME``: a script or style of the page."""
        if name not in _PAGE:
            return json_reply({"error": f"the page has no {name}; it has {', '.join(_PAGE)}"}, 404)
        return _file(name, _PAGE[name])

    def yaml(self, _call: Call) -> Reply:
        """``GET /openapi.yaml``."""
        return _file("openapi.yaml", "application/yaml")

    def json(self, _call: Call) -> Reply:
        """``GET /openapi.json``."""
        return _file("openapi.json", "application/json")


def _file(name: str, kind: str, *more: tuple[str, str]) -> Reply:
    headers = [
        ("Content-Type", kind),
        ("X-Content-Type-Options", "nosniff"),
        ("Cache-Control", "no-cache"),
        *more,
    ]
    return Reply(200, (_HERE / name).read_bytes(), headers)
