"""Labels, speakers, names of files and folders that were chosen to break what shows them."""

import csv
import html
import unicodedata
from xml.etree import ElementTree

import numpy as np
import pytest
import soundfile
from PIL import Image

from pvae_pyro.data.corpus import CorpusError
from pvae_pyro.data.spelling import tidied
from pvae_pyro.errors import shown
from pvae_pyro.experiments import figures, prepare, report, run_svi
from pvae_pyro.experiments.support.command import RunError, tell
from pvae_pyro.figures.embeddings import scatter_figure
from pvae_pyro.figures.style import save_figure
from tests.support.page import Page

# Markup, an attribute's end, a formula that matplotlib cannot parse, a name that its legends leave
# out, a letter that its font lacks, an address that runs, a terminal's escape, a right-to-left
# override.
HOSTILE = (
    "<script>alert(1)</script>",
    "\"' onerror=alert(1) & $\\frac{$ |`",
    "_日javascript:alert(1)\n\u202e\x1b[31m\x07\u2028$",
)


def hostile_corpus(folder):
    """Noise and pictures in files named by their labels; returns the options of a run on them."""
    rng = np.random.default_rng(0)
    words, drawings = [["path", "label", "speaker", "split"]], [["path", "label", "split"]]
    for split in ("train", "test"):
        for n, label in enumerate(HOSTILE):
            for copy in range(4):
                file = folder / f"{split}-{copy}-{label}"
                file.parent.mkdir(parents=True, exist_ok=True)  # a label has a slash
                soundfile.write(f"{file}.wav", rng.normal(0, 0.1, 800 + 160 * n + 80 * copy), 8000)
                pixels = (rng.integers(0, 80, (28, 28)) + 80 * n).astype(np.uint8)
                Image.fromarray(pixels).save(f"{file}.png")
                name = str(file.relative_to(folder))
                words.append([f"{name}.wav", label, HOSTILE[copy % 3], split])
                drawings.append([f"{name}.png", label, split])
    words.append([f"not there {HOSTILE[2]}.wav", HOSTILE[2], "x", "train"])
    options = ["--num-cells", "8", "--no-report", "--epochs", "1"]
    for option, name, rows in (
        ("--image-dataset", "\"&'.csv", drawings),
        ("--dataset", "<b>$x_$\x1b[31m.csv", words),
    ):
        with open(folder / name, "w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows(rows)
        options += [option, f"manifest:{folder / name}"]
    return options


def printable(told):
    """Whether there is nothing that a terminal would obey, or a reader would not see."""
    return all(unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Zl") for c in told if c != "\n")


@pytest.fixture(scope="module")
def hostile(environment, tmp_path_factory):
    """The corpus's options, and the folder of a run on it."""
    corpus = tmp_path_factory.mktemp("data") / "<i>&\"'$x^{$\x1b[32m"
    folder = tmp_path_factory.mktemp("runs") / "<script>alert(1)<$x^{$&\"'\x1b[33m"
    corpus.mkdir()
    options = hostile_corpus(corpus)
    assert run_svi.main([*options, "--out", str(folder)]) == 0
    return options, folder


def test_a_report_has_no_markup_of_strangers(hostile, monkeypatch):
    _, folder = hostile
    for module in (report, figures):  # drawing all of them takes minutes
        monkeypatch.setattr(module, "FIGURES", {"tsne": figures.FIGURES["tsne"]})
    (folder / "figures").mkdir()
    Image.new("L", (5, 5)).save(folder / "figures" / "<b onload=alert(1)>\x1b.png")
    assert report.main([str(folder)]) == 0
    page = Page((folder / "report.html").read_text("utf-8"))
    assert printable(page.content)
    assert not {name for name, _ in page.tags} & {"script", "b", "i", "iframe", "object"}
    for _, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on")]
        assert not [a for a in attributes.values() if (a or "").startswith("javascript:")]
    assert all(shown(tidied(label)) in page.text for label in HOSTILE)
    assert shown(folder.name) in page.headings[0][1]


def test_what_is_printed_commands_no_terminal(hostile, tmp_path, capsys):
    options, folder = hostile
    printed = (folder / "run.log").read_text("utf-8")
    assert shown(folder.name) in printed
    assert printable(printed)
    assert prepare.main([*options[-2:], "--out", str(tmp_path / "prepared")]) == 0
    printed = capsys.readouterr()
    assert shown(HOSTILE[2]) in printed.out
    assert printable(printed.out + printed.err)
    tell(RunError("a\x1b[31m\nb\x07\u202e"))
    assert capsys.readouterr().err == "error: a\\x1b[31m\nb\\x07\\u202e\n"


def test_a_figure_shows_it_as_it_is(tmp_path):
    """Matplotlib would take what is between dollars for a formula, and XML knows no escape."""
    points = np.random.default_rng(0).normal(size=(9, 2))
    figure = scatter_figure({"a": points}, {"a": np.arange(9) % 3}, HOSTILE, "class")
    (legend,) = figure.legends
    assert len(legend.get_texts()) == 3  # a name that begins with _ would be left out
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "map.svg").symlink_to(tmp_path / "mine")
    (file,) = save_figure(figure, tmp_path / "map", ["svg"])
    assert (tmp_path / "mine").read_text() == "mine"  # a link is replaced, not followed
    ElementTree.parse(file)
    told = file.read_text("utf-8")
    assert "<script" not in told
    assert printable(told)
    # Letters are drawn as paths; a comment beside them holds the text.
    assert all(html.escape(shown(label)[:11], quote=False) in told for label in HOSTILE)


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
