"""Labels, speakers and file names that could break or command what shows them."""

import html
import unicodedata
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from pvae_pyro.data.corpus import CorpusError
from pvae_pyro.data.spelling import tidied
from pvae_pyro.errors import shown
from pvae_pyro.experiments import figures, prepare, report, run_svi
from pvae_pyro.experiments.support.command import RunError, tell
from pvae_pyro.figures.embeddings import scatter_figure
from pvae_pyro.figures.style import save_figure
from tests.support.page import Page
from tests.support.tiny_run import small_corpus

# Markup; the end of an attribute, a formula that matplotlib cannot parse; a name that its legends
# leave out, a script's address, a terminal's escape, a right-to-left override.
LABELS = (
    "<script>alert(1)</script>",
    "\"' onerror=alert(1) & $\\frac{$ |`",
    "_日javascript:alert(1)\n\u202e\x1b[31m\x07\u2028$",
)


def write_corpus(folder):
    """Write files that are named by their labels; returns the options of a run on them."""
    missing = [(f"missing {LABELS[2]}.wav", LABELS[2], "x")]
    small_corpus(folder, LABELS, 2, LABELS, missing)
    options = ["--num-cells", "8", "--no-report", "--epochs", "1"]
    for option, old, new in (
        ("--image-dataset", "drawings.csv", "\"&'.csv"),
        ("--dataset", "words.csv", "<b>$x_$\x1b[31m.csv"),
    ):
        options += [option, f"manifest:{(folder / old).rename(folder / new)}"]
    return options


def is_printable(text):
    """Whether the text has no character that a terminal obeys or a reader does not see."""
    return all(unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Zl") for c in text if c != "\n")


@pytest.fixture(scope="module")
def trained(environment, tmp_path_factory):
    """The corpus's options, and the folder of a run on it."""
    corpus = tmp_path_factory.mktemp("data") / "<i>&\"'$x^{$\x1b[32m"
    folder = tmp_path_factory.mktemp("runs") / "<script>alert(1)<$x^{$&\"'\x1b[33m"
    corpus.mkdir()
    options = write_corpus(corpus)
    assert run_svi.main([*options, "--out", str(folder)]) == 0
    return options, folder


def test_a_report_has_no_foreign_markup(trained, monkeypatch):
    _, folder = trained
    for module in (report, figures):  # drawing all of them takes minutes
        monkeypatch.setattr(module, "FIGURES", {"tsne": figures.FIGURES["tsne"]})
    (folder / "figures").mkdir()
    Image.new("L", (5, 5)).save(folder / "figures" / "<b onload=alert(1)>\x1b.png")
    assert report.main([str(folder)]) == 0
    page = Page((folder / "report.html").read_text("utf-8"))
    assert is_printable(page.content)
    assert not {name for name, _ in page.tags} & {"script", "b", "i", "iframe", "object"}
    for _, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on")]
        assert not [a for a in attributes.values() if (a or "").startswith("javascript:")]
    assert all(shown(tidied(label)) in page.text for label in LABELS)
    assert shown(folder.name) in page.headings[0][1]


def test_printed_lines_command_no_terminal(trained, tmp_path, capsys):
    options, folder = trained
    log = (folder / "run.log").read_text("utf-8")
    assert shown(folder.name) in log
    assert is_printable(log)
    assert prepare.main([*options[-2:], "--out", str(tmp_path / "prepared")]) == 0
    printed = capsys.readouterr()
    assert shown(LABELS[2]) in printed.out
    assert is_printable(printed.out + printed.err)
    tell(RunError("a\x1b[31m\nb\x07\u202e"))
    assert capsys.readouterr().err == "error: a\\x1b[31m\nb\\x07\\u202e\n"


def test_a_figure_shows_labels_as_text(tmp_path):
    """Matplotlib takes what is between dollars for a formula, and XML has no terminal escapes."""
    points = np.random.default_rng(0).normal(size=(9, 2))
    figure = scatter_figure({"a": points}, {"a": np.arange(9) % 3}, LABELS, "class")
    (legend,) = figure.legends
    assert len(legend.get_texts()) == 3  # matplotlib leaves out a name that begins with _
    (file,) = save_figure(figure, tmp_path / "map", ["svg"])
    ElementTree.parse(file)
    text = file.read_text("utf-8")
    assert "<script" not in text
    assert is_printable(text)
    # Letters are drawn as paths; a comment beside them holds the text.
    assert all(html.escape(shown(label)[:11], quote=False) in text for label in LABELS)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"a\xff\n".decode("utf-8", "surrogateescape"), r"a\xff\n"),
        ("\ud800\x00\x7f\u202e", r"\ud800\x00\x7f\u202e"),
        ("naïve 日本 שלום", "naïve 日本 שלום"),
    ],
)
def test_text_that_cannot_be_printed_is_escaped(text, expected):
    assert shown(text) == expected
    assert str(CorpusError(text)) == shown(text, keep="\n")
