"""Labels, speakers, file names and folders that were chosen to break what shows them."""

import csv
import html
import json
import os
import unicodedata
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
import soundfile
from PIL import Image

from pvae_pyro.data.corpus import CorpusError
from pvae_pyro.data.spelling import tidied
from pvae_pyro.data.summary import problem_lines
from pvae_pyro.errors import shown
from pvae_pyro.experiments import figures, prepare, report, run_svi
from pvae_pyro.experiments.support.errors import RunError, tell
from pvae_pyro.experiments.support.table_rows import aggregate, markdown
from pvae_pyro.figures.embeddings import scatter_figure
from pvae_pyro.figures.grids import joint_latent_grid, translation_grid
from pvae_pyro.figures.observations import SequenceAxes
from pvae_pyro.figures.style import plain, save_figure
from tests.support.page import Page
from tests.support.tiny import NUM_MELS, tiny_examples, tiny_pair

# Markup, an attribute's end, a formula of matplotlib's that it cannot parse, a name that its
# legends leave out, a letter that its font lacks, an address that runs, a terminal's escape, a
# right-to-left override.
HOSTILE = (
    "<script>alert(1)</script>",
    "\"' onerror=alert(1) & $\\frac{$ |`",
    "_日javascript:alert(1)\n\u202e\x1b[31m\x07\u2028$",
)


def hostile_corpus(folder):
    """As `small_corpus`; files are named by their labels, and so are speakers and manifests."""
    rng = np.random.default_rng(0)
    words, drawings = [["path", "label", "speaker", "split"]], [["path", "label", "split"]]
    for split in ("train", "test"):
        for n, label in enumerate(HOSTILE):
            for copy in range(4):
                file = folder / f"{split}-{copy}-{label}"
                file.parent.mkdir(parents=True, exist_ok=True)  # a label has a slash
                noise = rng.normal(0, 0.1, 800 + 160 * n + 80 * copy)
                soundfile.write(f"{file}.wav", noise, 8000)
                pixels = (rng.integers(0, 80, (28, 28)) + 80 * n).astype(np.uint8)
                Image.fromarray(pixels).save(f"{file}.png")
                name = str(file.relative_to(folder))
                words.append([f"{name}.wav", label, HOSTILE[copy % 3], split])
                drawings.append([f"{name}.png", label, split])
    words.append([f"not there {HOSTILE[2]}.wav", HOSTILE[2], "x", "train"])
    options = ["--num-cells", "8", "--no-report", "--epochs", "1"]
    for option, name, rows in (
        ("--dataset", "<b>$x_$\x1b[31m.csv", words),
        ("--image-dataset", "\"&'.csv", drawings),
    ):
        with open(folder / name, "w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows(rows)
        options += [option, f"manifest:{folder / name}"]
    return options


def printable(told):
    """Nothing that a terminal, or a page's reader, would not see."""
    return all(unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Zl") for c in told if c != "\n")


@pytest.fixture(scope="module")
def hostile(cache, tmp_path_factory):
    """The corpus's options, and the folder of a run on it."""
    corpus = tmp_path_factory.mktemp("data") / "<i>&\"'$x^{$\x1b[32m"
    folder = tmp_path_factory.mktemp("runs") / "<script>alert(1)<$x^{$&\"'\x1b[33m"
    corpus.mkdir()
    options = hostile_corpus(corpus)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in cache.items():
            patch.setenv(name, value)
        assert run_svi.main([*options, "--out", str(folder)]) == 0
    return options, folder


def test_a_report_shows_it_as_it_is(hostile, environment, monkeypatch, capsys):
    _, folder = hostile
    some = {name: figures.FIGURES[name] for name in ("joint", "tsne")}
    monkeypatch.setattr(report, "FIGURES", some)
    monkeypatch.setattr(figures, "FIGURES", some)
    (folder / "figures").mkdir()
    Image.new("L", (5, 5)).save(folder / "figures" / "<b onload=alert(1)>\x1b.png")
    assert report.main([str(folder)]) == 0
    page = Page((folder / "report.html").read_text("utf-8"))
    assert printable(page.content)
    assert "<script" not in page.content
    known = {"html", "head", "meta", "title", "link", "style", "body", "header", "h1", "p", "nav",
             "h2", "ol", "li", "a", "main", "section", "div", "table", "thead", "tbody", "tr",
             "th", "td", "h3", "span", "img", "audio", "figure", "figcaption",
             "details", "summary"}  # fmt: skip
    assert {name for name, _ in page.tags} <= known
    for _, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on")]
        assert not [a for a in attributes.values() if (a or "").startswith("javascript:")]
    alts = [a["alt"] for a in page.all("img")]
    for label in map(tidied, HOSTILE):
        seen = shown(label)
        assert seen in page.text
        assert [alt for alt in alts if f"original: {seen}, by" in alt]
    assert page.headings[0] == (1, f"Report of {shown(folder.name)}")
    assert "\\u202e\\x1b[31m\\x07 $" in page.text
    assert [alt for alt in alts if "<b onload=alert(1)>\\x1b: another figure" in alt]
    assert len(alts) > 20
    assert json.loads((folder / "results.json").read_text())["classes"] == sorted(
        map(tidied, HOSTILE)
    )


def test_what_is_printed_commands_no_terminal(hostile, environment, tmp_path, capsys):
    options, folder = hostile
    printed = (folder / "run.log").read_text("utf-8")
    assert shown(folder.name) in printed
    assert "left out: 1 (1 missing)" in printed
    assert printable(printed)
    of = options[options.index("--dataset") :]
    assert prepare.main([*of, "--out", str(tmp_path / "prepared")]) == 0
    printed = capsys.readouterr()
    assert shown(HOSTILE[2]) in printed.out
    assert printable(printed.out)
    assert printable(printed.err)


def test_markdown_has_no_markup_of_others(hostile):
    _, folder = hostile
    results = json.loads((folder / "results.json").read_text())
    of_run = r"manifest \<b\>\$x\_\$\\x1b\[31m.csv + manifest " + '"' + r"\&'.csv"
    for corpus, title in ((results["corpus"], of_run), ("a|\n\x1b`b`", r"a\|\\n\\x1b\`b\`")):
        table = markdown(aggregate([("pvae", results | {"corpus": corpus})]))
        assert table.splitlines()[0] == f"# Table 1 on {title}"


def test_figures_show_it_as_it_is(tmp_path):
    """Matplotlib would take what is between dollars for a formula, and XML knows no escape."""
    model, guide = tiny_pair()
    examples = tiny_examples()
    speech = examples["speech"]
    speakers = [HOSTILE[n % 3] for n in range(len(speech))]
    examples["speech"] = replace(speech, groups=speakers)
    axes = {"speech": SequenceAxes(0.01, np.linspace(100, 3000, NUM_MELS))}
    at = np.array([0, 1, 2])
    arguments = (model, guide.unimodal, examples)
    shared = {"classes": HOSTILE, "axes": axes}
    points = np.random.default_rng(0).normal(size=(9, 2))
    drawn = {
        "translate": translation_grid(*arguments, "image", "speech", at, at, **shared),
        "joint": joint_latent_grid(*arguments, "image", at, **shared),
        "map": scatter_figure({"a": points}, {"a": np.arange(9) % 3}, HOSTILE, "class"),
    }
    (legend,) = drawn["map"].legends
    assert len(legend.get_texts()) == 3  # a name that begins with _ would be left out
    for title, figure in drawn.items():
        (file,) = save_figure(figure, tmp_path / title, ["svg"])
        ElementTree.parse(file)
        told = file.read_text("utf-8")
        assert "<script" not in told
        assert printable(told)
        # Letters are drawn as paths; a comment beside them holds the text, as XML.
        for label in HOSTILE:
            assert html.escape(shown(label)[:11], quote=False) in told


def test_names_in_figures():
    assert plain("a$b$\n") == r"a\$b\$\n"
    assert plain("x" * 24) == "x" * 24
    assert plain("x" * 25) == "x" * 23 + "…"
    assert plain("$" * 9, 5) == r"\$" * 4 + "…"


def test_text_that_cannot_be_encoded_is_shown():
    assert shown(os.fsdecode(b"a\xff\n")) == r"a\xff\n"
    assert shown("\ud800\x00\x7f\u202e") == r"\ud800\x00\x7f\u202e"
    assert shown("naïve 日本 שלום", keep="\n") == "naïve 日本 שלום"
    assert shown("a\nb\tc", keep="\n") == "a\nb\\tc"
    assert str(CorpusError("a\x1b\nb")) == "a\\x1b\nb"
    assert problem_lines([("kind", "a\x1b\n")], "")[1] == r"  a\x1b\n"


def test_a_terminal_obeys_no_error(capsys):
    tell(RunError("a\x1b[31m\nb\x07\u202e"))
    assert capsys.readouterr().err == "error: a\\x1b[31m\nb\\x07\\u202e\n"
