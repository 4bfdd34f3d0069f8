"""The report's page: `report.html.j2`, filled in.

All content is text: it is escaped, so a label ``<b>`` stays a label, and its control characters
are written as ``\\u202e``.
"""

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from pvae_pyro.errors import shown
from pvae_pyro.figures.style import RC

PIXELS_PER_INCH = 120  # CSS pixels, of figures


@dataclass(frozen=True)
class PageFigure:
    """A figure's PNG, and how wide it is shown in CSS pixels."""

    name: str
    caption: str
    png: bytes
    width: int


def read_figure(file: Path, caption: str) -> PageFigure:
    """A figure from its PNG file, which is not decoded. Raises OSError if it cannot be read."""
    png = file.read_bytes()
    if not png.startswith(b"\x89PNG\r\n\x1a\n") or png[12:16] != b"IHDR":
        raise OSError(f"{file} is not a PNG file")
    width = int.from_bytes(png[16:20], "big")
    return PageFigure(file.stem, caption, png, round(width * PIXELS_PER_INCH / RC["savefig.dpi"]))


def render(**content: Any) -> str:
    """The page. content: the template's variables; None is shown as a dash."""
    environment = Environment(
        autoescape=True,
        finalize=_as_text,
        loader=PackageLoader("pvae_pyro.report", ""),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters["data_uri"] = _data_uri
    return environment.get_template("report.html.j2").render(content)


def _as_text(value: Any) -> str:
    if isinstance(value, Markup):  # made by the template itself
        return value
    return "–" if value is None else shown(str(value), keep="\n")


def _data_uri(content: bytes, kind: str) -> Markup:
    """A file's content as a data: URI, in which nothing needs to be escaped (RFC 2397)."""
    return Markup(f"data:{kind};base64,{base64.b64encode(content).decode()}")
