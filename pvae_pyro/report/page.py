"""Pieces of an HTML page that is one file: no script, no request, media as data: URIs.

Whatever is not `Html` is text: it is escaped where it enters, so a label ``<b>`` stays a label.
Control characters, those that turn a line's direction among them, are written out: ``\\u202e``.
"""

import base64
import mimetypes
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from pvae_pyro.data.pictures.reading import png_width
from pvae_pyro.errors import shown
from pvae_pyro.figures.style import RC
from pvae_pyro.io.files import read_regular, write_whole

STYLE_SHEET = Path(__file__).with_name("report.css")


class Html(str):
    """Markup: `text` leaves it as it is."""


# The policy is kept by the browser: even a mistake of ours could not fetch or run anything.
_TEMPLATE = Template("""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="$policy">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>$title</title>
<link rel="icon" href="data:,">
<style>
$style
</style>
</head>
<body>
<header>
<h1>$title</h1>
$lead
</header>
<nav aria-label="Contents">
<h2>Contents</h2>
<ol>
$contents
</ol>
</nav>
<main>
$sections
</main>
</body>
</html>
""")


def text(value: Any) -> Html:
    """Any value as text, escaped; `Html` as it is, None as a dash."""
    if isinstance(value, Html):
        return value
    return Html("–" if value is None else _escape(value))


def _escape(value: Any) -> str:
    return escape(shown(str(value), keep="\n"))


def joined(parts: Sequence[Any]) -> Html:
    """One after the other, a line each."""
    return Html("\n".join(map(text, parts)))


def element(name: str, *content: Any, **attributes: Any) -> Html:
    """``<name attributes>content</name>``; an attribute that is True has no value, None is left
    out, and an underscore at its end (``class_``) is dropped."""
    written = "".join(
        f" {key.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{_escape(value)}"')
        for key, value in attributes.items()
        if value is not None
    )
    return Html(f"<{name}{written}>{''.join(map(text, content))}</{name}>")


def write_page(file: Path, title: str, lead: Html, sections: Sequence[tuple[str, Html]]) -> None:
    """Write the whole document or, on any failure, nothing.

    lead: under the title. sections: heading and content of each; all are in the contents.
    """
    write_whole(file, _page(title, lead, sections).encode())


def _page(title: str, lead: Html, sections: Sequence[tuple[str, Html]]) -> str:
    names = [f"section-{n}" for n in range(1, 1 + len(sections))]
    policy = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    return _TEMPLATE.substitute(
        title=text(title),
        policy=policy + "".join(f"; {kind}-src data:" for kind in ("img", "media")),
        style=STYLE_SHEET.read_text("utf-8"),
        lead=lead,
        contents=joined(
            [
                element("li", element("a", heading, href=f"#{name}"))
                for name, (heading, _) in zip(names, sections, strict=True)
            ]
        ),
        sections=joined(
            [
                element("section", element("h2", heading, id=name), content, aria_labelledby=name)
                for name, (heading, content) in zip(names, sections, strict=True)
            ]
        ),
    )


def data_uri(content: bytes, suffix: str) -> str:
    """A file's content as its own address. suffix: of its name, such as ".png".

    Source: https://www.rfc-editor.org/rfc/rfc2397
    """
    kind, _ = mimetypes.guess_type(f"name{suffix}")
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def picture(png: bytes, alt: str, **attributes: Any) -> Html:
    uri = data_uri(png, ".png")
    tag = element("img", src=uri, alt=alt, **attributes)
    return Html(tag.removesuffix("</img>"))


def figure(file: Path, about: str) -> Html:
    """A figure from its PNG file, at some 120 CSS pixels an inch, in a box that scrolls.

    Raises OSError where it cannot be read.
    """
    try:
        png = read_regular(file)
        width = png_width(png)
    except ValueError as error:
        raise OSError(f"{file} is no PNG that can be read: {error}") from error
    seen = picture(png, about, width=round(width * 120 / RC["savefig.dpi"]))
    return element("figure", wide(seen, file.stem), element("figcaption", about))


def note(content: str, class_: str = "note") -> Html:
    return element("p", content, class_=class_)


def player(wav: bytes, label: str) -> Html:
    """label: what is heard, for who does not see the page."""
    source = data_uri(wav, ".wav")
    return element("audio", src=source, controls=True, preload="metadata", aria_label=label)


def wide(content: Html, label: str) -> Html:
    """A box that scrolls sideways by itself, with the keyboard too; the page never does."""
    return element("div", content, class_="wide", role="region", aria_label=label, tabindex="0")


def table(
    head: Sequence[Any],
    rows: Sequence[Sequence[Any]],
    caption: str,
    class_: str | None = None,
    faint: Sequence[int] = (),
) -> Html:
    """A table in a `wide` box; the first cell of a row names it.

    head: of the columns, may be empty. faint: positions of rows that do not count.
    """
    lines = []
    if head:
        cells = [element("th", cell, scope="col") for cell in head]
        lines.append(element("thead", element("tr", *cells)))
    body = [
        element(
            "tr",
            element("th", first, scope="row"),
            *(element("td", cell) for cell in cells),
            class_="faint" if n in faint else None,
        )
        for n, (first, *cells) in enumerate(rows)
    ]
    lines.append(element("tbody", *body))
    inner = element("table", *lines, class_=class_, aria_label=caption)
    # Not a <caption>: it would be as wide as a table that scrolls.
    return joined([note(caption, "caption"), wide(inner, caption)])


def nested_rows(found: Mapping[str, Any], fields: Sequence[str]) -> list[list[Any]]:
    """Rows for `table` of measures that are nested by latent, modality and so on.

    A row for every mapping that has some of `fields`, named by the keys that lead there; and, where
    fields are a single one, for every fraction that is a float. Floats have three places.
    """
    return [[", ".join(path), *map(_number, cells)] for path, cells in _found(found, fields, ())]


def _found(
    found: Mapping[str, Any], fields: Sequence[str], path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], list[Any]]]:
    if found.keys() & set(fields):
        yield path, [found.get(field) for field in fields]
        return
    for key, part in found.items():
        if isinstance(part, Mapping):
            yield from _found(part, fields, (*path, key))
        elif isinstance(part, float) and len(fields) == 1:
            yield (*path, key), [part]


def _number(value: Any) -> Any:
    return f"{value:.3f}" if isinstance(value, float) else value
