"""Word boundaries are read from CTM files."""

import pytest

from pvae_pyro.data.alignment.ctm import Span, read_ctm
from pvae_pyro.data.corpus import CorpusError


def _ctm(tmp_path, text, name="a.ctm"):
    path = tmp_path / name
    path.write_text(text)
    return path


def test_words_in_order(tmp_path):
    text = ";; comment\nac_13a 1 0.20 0.285 1\nac_13a 1 0.48 0.45 3 0.9\n\nAC_OA 1 0.1 0.2 O\n"
    spans, problems = read_ctm([_ctm(tmp_path, text)])
    assert problems == []
    assert spans == {
        "ac_13a": (Span("1", 0.2, 0.485), Span("3", 0.48, 0.93)),
        "ac_oa": (Span("o", 0.1, 0.3),),
    }


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("x_12a 1 0.15 0.2 2", "before the previous word ends"),
        ("x_12a 1 -0.2 0.2 2", "impossible time"),
        ("x_12a 1 nan 0.1 2", "impossible time"),
        ("x_12a 1 five 0.1 2", "not a number"),
        ("x_12a 1 0.5 0.1", "has 4 fields"),
    ],
)
def test_an_utterance_with_a_bad_line_is_left_out(tmp_path, line, message):
    path = _ctm(tmp_path, f"y_1a 1 0.1 0.1 1\nx_12a 1 0.1 0.1 1\n{line}\nz_1a 1 0.1 0.1 1\n")
    spans, (problem,) = read_ctm([path])
    assert set(spans) == {"y_1a", "z_1a"}
    assert (problem.name, problem.kind) == ("x_12a", "alignment")
    assert problem.reason.startswith("a.ctm:3: ")
    assert message in problem.reason


def test_an_utterance_in_two_files_is_left_out(tmp_path):
    one = _ctm(tmp_path, "x_1a 1 0.1 0.1 1\n")
    two = _ctm(tmp_path, "x_1a 1 0.2 0.1 1\nx_2a 1 0.2 0.1 2\n", "b.ctm")
    spans, (problem,) = read_ctm([one, two])
    assert set(spans) == {"x_2a"}
    assert (problem.name, problem.kind) == ("x_1a", "duplicate")


def test_a_file_that_is_not_text_is_refused(tmp_path):
    path = tmp_path / "a.ctm"
    path.write_bytes(b"x_1a 1 0.2 0.1 1\n\xff")
    with pytest.raises(CorpusError, match=r"a\.ctm:2: is not UTF-8"):
        read_ctm([path])


@pytest.mark.parametrize(
    ("split", "utterances", "digits", "speakers"),
    [("train", 8623, 28329, 112), ("test", 8700, 28583, 113)],
)
def test_public_alignments_of_tidigits(data_root, split, utterances, digits, speakers):
    path = data_root / "tidigits_ctm" / f"{split}_word_align.ctm"
    if not path.is_file():
        pytest.skip("no TIDIGITS alignments")
    spans, problems = read_ctm([path])
    assert problems == []
    assert len(spans) == utterances
    assert sum(map(len, spans.values())) == digits
    assert len({name.split("_")[0] for name in spans}) == speakers
    # Each contains the digits of its name.
    for name, words in spans.items():
        assert "".join(word.word for word in words) == name.split("_")[1][:-1]
