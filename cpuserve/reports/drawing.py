"""Builds one SVG drawing, to stand in a page or in a file of its own."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from markupsafe import Markup

from cpuserve.reports.page import embedded

__all__ = ["Drawing"]


class Drawing:
    """An SVG drawing whose colours are classes of ``style.css``, so that they follow a light or dark page.

    Args:
        width: units across; the page scales them.
        height: units down.
        label: what it shows, for those who cannot see it.
        name: its id in the page, for a script.
    """

    def __init__(self, width: float, height: float, label: str, name: str = "") -> None:
        self._root = ET.Element("svg", {"viewBox": f"0 0 {width:g} {height:g}", "role": "img"})
        self._root.set("aria-label", label)
        if name:
            self._root.set("id", name)

    def add(
        self,
        tag: str,
        kind: str = "",
        *,
        inside: ET.Element | None = None,
        text: str = "",
        tip: str = "",
        **attributes: str | float,
    ) -> ET.Element:
        """Add an element.

        Args:
            tag: of SVG.
            kind: its class.
            inside: the element it is put into; the drawing without it.
            text: its content.
            tip: shown while the pointer is over it.
            attributes: of SVG, with ``_`` for ``-``; numbers are rounded to tenths of a unit.
        """
        element = ET.SubElement(self._root if inside is None else inside, tag)
        if kind:
            element.set("class", kind)
        for name, value in attributes.items():
            words = value if isinstance(value, str) else f"{round(value, 1):g}"
            element.set(name.replace("_", "-"), words)
        if tip:
            ET.SubElement(element, "title").text = tip
        if text:
            element.text = text
        return element

    def text(
        self,
        x: float,
        y: float,
        words: str,
        kind: str = "",
        *,
        anchor: str = "start",
        inside: ET.Element | None = None,
    ) -> ET.Element:
        """Write words at a place: its left end, ``middle`` or ``end`` by ``anchor``."""
        more = {} if anchor == "start" else {"text_anchor": anchor}
        return self.add("text", kind, inside=inside, text=words, x=x, y=y, **more)

    def __html__(self) -> Markup:
        """The drawing as part of a page."""
        return Markup(ET.tostring(self._root, encoding="unicode"))  # noqa: S704  # ElementTree has escaped it

    def file_text(self) -> str:
        """The drawing as an SVG file of its own, with its colours."""
        root = ET.Element(
            "svg", {"xmlns": "http://www.w3.org/2000/svg", "class": "alone", **self._root.attrib}
        )
        ET.SubElement(root, "style").text = str(embedded("style.css"))
        root.extend(self._root)
        return ET.tostring(root, encoding="unicode") + "\n"
