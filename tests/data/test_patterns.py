"""Names of files become digits, speakers, phones and splits; what does not fit is told of."""

import hashlib
import os
import unicodedata
from pathlib import Path

import pytest

from pvae_pyro.data.corpora.patterns import matches, of_phone, phones, split_entries
from pvae_pyro.data.corpora.secuvoice import WORDS
from pvae_pyro.data.corpus import CorpusError

PATTERN = "{speaker}/{phone}/{digit}_{any}.wav"


def pattern_entries(folder, pattern, *, words, phone=None, test_speakers=None):
    found, problems = matches(folder, pattern, words=words)
    if phone is not None:
        found = of_phone(found, phone)
    return split_entries(found, test_speakers), problems


def _put(folder: Path, *names: str | bytes) -> None:
    for name in names:
        path = Path(os.fsdecode(os.path.join(os.fsencode(folder), os.fsencode(name))))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")  # names alone matter here


def _found(folder: Path, pattern: str = PATTERN, words=WORDS) -> dict[str, tuple]:
    found, problems = matches(folder, pattern, words=words)
    assert problems == []
    return {m.name: (m.digit, m.speaker, m.phone, m.split) for m in found}


def _problems(folder: Path, pattern: str = PATTERN) -> dict[str, str]:
    return {p.name: p.kind for p in matches(folder, pattern, words=WORDS)[1]}


def test_names_are_read(tmp_path: Path):
    _put(tmp_path, "ana/s5/7_01.wav", "bo/htc/0_x y.wav", "bo/htc/nueve_2.wav")
    _put(tmp_path, "readme.txt", "ana/notes.pdf", "ana/s5/7_01.wav.bak", "ana/s5/.7_02.wav")
    _put(tmp_path, ".trash/s5/7_01.wav")
    assert _found(tmp_path) == {
        "ana/s5/7_01.wav": ("7", "ana", "s5", None),
        "bo/htc/0_x y.wav": ("0", "bo", "htc", None),
        "bo/htc/nueve_2.wav": ("9", "bo", "htc", None),
    }


def test_every_word(tmp_path: Path):
    _put(tmp_path, *(f"ana/s5/{word}_1.wav" for word in WORDS))
    found = _found(tmp_path)
    assert {name: said[0] for name, said in found.items()} == {
        f"ana/s5/{word}_1.wav": str(digit) for digit, word in enumerate(WORDS)
    }


@pytest.mark.parametrize(
    ("pattern", "name", "said"),
    [
        ("{digit}_{speaker}_{any}.wav", "3_ana_01.wav", ("3", "ana", None, None)),
        ("In-{split}/S{speaker}.{digit}.flac", "in-TEST/s1.4.FLAC", ("4", "1", None, "test")),
        ("{any}/{split}/{phone}/{speaker}-{digit}.sph", "x/train/p/a b-8.sph",
         ("8", "a b", "p", "train")),
        ("{any}/{any}_{digit}/{speaker}.wav", "x/take_2/ana.wav", ("2", "ana", None, None)),
        ("v(1.0)+/{speaker}[{digit}].wav", "v(1.0)+/ana[0].wav", ("0", "ana", None, None)),
    ],
)  # fmt: skip
def test_templates(tmp_path: Path, pattern: str, name: str, said: tuple):
    _put(tmp_path, name)
    assert _found(tmp_path, pattern) == {name: said}


def test_case_and_accents(tmp_path: Path):
    words = ("zéro", "un", "deux", "trois", "quatre", "cinq", "six", "sept", "huit", "neuf")
    decomposed = unicodedata.normalize("NFD", "ZÉRO")
    _put(tmp_path, "Ana/S5/SEPT_1.WAV", "ana/s5/zero_1.wav", "ANA/s5/zéro_2.wav")
    _put(tmp_path, f"ana/S5/{decomposed}_3.wav", "ana/s5/sépt_4.wav")
    said = _found(tmp_path, words=words).values()
    assert sorted(said) == [("0", "ana", "s5", None)] * 3 + [("7", "ana", "s5", None)] * 2


def test_composed_and_decomposed_names_are_one_speaker(tmp_path: Path):
    name = unicodedata.normalize("NFC", "Peña")
    other = unicodedata.normalize("NFD", name)
    assert name != other
    _put(tmp_path, f"{name}/s5/1_a.wav", f"{other}/s5/2_a.wav", "Pena/s5/3_a.wav")
    said = _found(tmp_path)
    assert {speaker for _, speaker, _, _ in said.values()} == {"peña", "pena"}
    pattern = unicodedata.normalize("NFD", "peña/{speaker}/{digit}_{any}.wav")
    found, problems = matches(tmp_path, pattern, words=WORDS)
    assert (len(found), len(problems)) == (2, 1)


def test_bytes_that_are_no_text(tmp_path: Path):
    _put(tmp_path, b"an\xff/s5/1_a.wav", b"bo/s5/2_\xfe.wav", b"bo/s5/\xfd.wav")
    found, problems = matches(tmp_path, PATTERN, words=WORDS)
    assert [(m.name, m.speaker) for m in found] == [
        (r"an\xff/s5/1_a.wav", r"an\xff"),
        (r"bo/s5/2_\xfe.wav", "bo"),
    ]
    assert all(m.path.is_file() for m in found)
    assert [(p.name, p.kind) for p in problems] == [(r"bo/s5/\xfd.wav", "name")]
    literal = os.fsdecode(b"an\xff/{speaker}/{digit}_{any}.wav")
    assert [m.name for m in matches(tmp_path, literal, words=WORDS)[0]] == [r"an\xff/s5/1_a.wav"]
    for text in (problems[0].reason, *(m.name for m in found)):
        text.encode()  # it can be printed


@pytest.mark.parametrize(
    "name",
    [
        "1_a.wav",
        "ana/1_a.wav",
        "ana/s5/more/1_a.wav",
        "ana/s5/10_a.wav",
        "ana/s5/once_a.wav",
        "ana/s5/unos_a.wav",
        "ana/s5/1_.wav",
        "ana/s5/1_a.flac",
        "ana/s5/٣_a.wav",
    ],
)
def test_other_names(tmp_path: Path, name: str):
    _put(tmp_path, "ana/s5/1_a.wav", name)
    found, problems = matches(tmp_path, PATTERN, words=WORDS)
    assert [m.name for m in found] == ["ana/s5/1_a.wav"]
    (problem,) = problems
    assert (problem.name, problem.kind) == (name, "name")
    assert problem.reason == f"{tmp_path / name}: does not fit the pattern {PATTERN}"


def test_names_that_fit_in_two_ways(tmp_path: Path):
    _put(tmp_path, "ana_maria_3_a.wav", "ana_3_4_a.wav")
    found, problems = matches(tmp_path, "{speaker}_{digit}_{any}.wav", words=WORDS)
    assert [(m.speaker, m.digit) for m in found] == [("ana_maria", "3")]
    assert [(p.name, p.kind) for p in problems] == [("ana_3_4_a.wav", "ambiguous")]
    assert "'ana_3'" in problems[0].reason
    assert "'ana'" in problems[0].reason


def test_any_may_fit_in_two_ways(tmp_path: Path):
    _put(tmp_path, "ana/3_a_b_c.wav")
    assert _found(tmp_path, "{speaker}/{digit}_{any}_{any}.wav") == {
        "ana/3_a_b_c.wav": ("3", "ana", None, None)
    }


@pytest.mark.parametrize(
    ("pattern", "told"),
    [
        ("{speaker}/{number}.wav", "unknown placeholder {number}"),
        ("{speaker}/{}.wav", "unknown placeholder {}"),
        ("{speaker}/{Digit}.wav", "unknown placeholder {Digit}"),
        ("{speaker}/{any}.wav", "{digit} is missing"),
        ("a/{digit}.wav", "{speaker} is missing"),
        ("", "{digit} is missing"),
        ("{speaker}/{speaker}_{digit}.wav", "{speaker} is there more than once"),
        ("{digit}/{speaker}_{digit}.wav", "{digit} is there more than once"),
        ("{speaker}{digit}.wav", "nothing between"),
        ("{speaker}/{digit.wav", "a brace has no partner"),
        ("{speaker}/{digit}}.wav", "a brace has no partner"),
        ("/{speaker}/{digit}.wav", "a path within the folder"),
        ("{speaker}//{digit}.wav", "a path within the folder"),
        ("../{speaker}/{digit}.wav", "a path within the folder"),
        ("{speaker}/{digit}.wav/", "a path within the folder"),
        ("{speaker}/*/{digit}.wav", "mean nothing"),
        ("{speaker}\\{digit}.wav", "mean nothing"),
    ],
)
def test_patterns_that_cannot_be_used(tmp_path: Path, pattern: str, told: str):
    _put(tmp_path, "ana/s5/1_a.wav")
    with pytest.raises(CorpusError) as caught:
        matches(tmp_path, pattern, words=WORDS)
    assert repr(pattern) in str(caught.value)
    assert told in str(caught.value)
    assert "{digit}, {speaker}, {phone}, {split}, {any}" in str(caught.value)


def test_nothing_fits(tmp_path: Path):
    with pytest.raises(CorpusError, match="none of its 0 sound files"):
        matches(tmp_path, PATTERN, words=WORDS)
    _put(tmp_path, "b.wav", "a.wav")
    with pytest.raises(CorpusError, match=r"none of its 2 .* fits the pattern .*a\.wav: does not"):
        matches(tmp_path, PATTERN, words=WORDS)


def test_folder_that_is_not_there(tmp_path: Path):
    with pytest.raises(CorpusError, match="nowhere: cannot be listed"):
        matches(tmp_path / "nowhere", PATTERN, words=WORDS)


def test_links(tmp_path: Path):
    corpus, elsewhere = tmp_path / "corpus", tmp_path / "elsewhere"
    _put(corpus, "ana/s5/1_a.wav")
    _put(elsewhere, "s5/2_a.wav")
    (corpus / "bo").symlink_to(elsewhere)
    (corpus / "ana" / "s5" / "3_a.wav").symlink_to(elsewhere / "s5" / "2_a.wav")
    # Before "ana" in order, yet it must not take her files with it; the rest are loops.
    (corpus / "all").symlink_to(corpus / "ana")
    (corpus / "ana" / "up").symlink_to(corpus)
    (elsewhere / "back").symlink_to(corpus / "bo")
    (corpus / "itself").symlink_to(corpus / "itself")
    assert list(_found(corpus)) == ["ana/s5/1_a.wav", "ana/s5/3_a.wav", "bo/s5/2_a.wav"]


def test_what_is_no_file(tmp_path: Path):
    _put(tmp_path, "ana/s5/1_a.wav")
    (tmp_path / "ana" / "s5" / "2_a.wav").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "ana" / "s5" / "3_a.wav")
    (tmp_path / "ana" / "s5" / "4_a.txt").symlink_to(tmp_path / "nowhere")
    assert _problems(tmp_path) == {
        "ana/s5/2_a.wav": "not a file",
        "ana/s5/3_a.wav": "not a file",
    }


@pytest.mark.parametrize(
    ("error", "kind"),
    [(PermissionError(13, "denied"), "no permission"), (OSError(5, "I/O"), "unreadable")],
)
def test_folders_that_cannot_be_listed(tmp_path: Path, monkeypatch, error: OSError, kind: str):
    _put(tmp_path, "ana/s5/1_a.wav", "bo/s5/1_a.wav")
    scandir = os.scandir

    def refusing(path):  # chmod does not stop root
        if Path(path) == tmp_path / "bo":
            raise error
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    found, problems = matches(tmp_path, PATTERN, words=WORDS)
    assert [m.name for m in found] == ["ana/s5/1_a.wav"]
    assert [(p.name, p.kind) for p in problems] == [("bo", kind)]
    assert problems[0].reason == f"{tmp_path / 'bo'}: cannot be listed ({error.strerror})"


def test_phones(tmp_path: Path):
    _put(tmp_path, "ana/S5/1_a.wav", "ana/htc one/1_a.wav", "bo/s5/1_a.wav")
    found, _ = matches(tmp_path, PATTERN, words=WORDS)
    assert phones(found) == ["htc one", "s5"]
    assert [m.name for m in of_phone(found, "s5")] == ["ana/S5/1_a.wav", "bo/s5/1_a.wav"]
    assert of_phone(found, "S5") == of_phone(found, "s5")
    with pytest.raises(CorpusError, match="no recordings of phone 'iphone'; .*: htc one, s5$"):
        of_phone(found, "iphone")
    without, _ = matches(tmp_path, "{speaker}/{any}/{digit}_{any}.wav", words=WORDS)
    with pytest.raises(CorpusError, match=r"phone 's5'; .*: none, as the pattern has no {phone}"):
        of_phone(without, "s5")


SPEAKERS = [f"s{number:03d}" for number in range(100)]


def _split(folder: Path, **options) -> dict[str, set[str]]:
    entries, problems = pattern_entries(folder, PATTERN, words=WORDS, **options)
    assert problems == []
    speakers = {"train": set(), "test": set()}
    for entry in entries:
        speakers[entry.split].add(entry.speaker)
    assert not speakers["train"] & speakers["test"]
    return speakers


def test_entries(tmp_path: Path):
    _put(tmp_path, "bo/s5/nueve_1.wav", "ana/s5/3_1.wav", "ana/htc/3_1.wav", "x.wav")
    entries, problems = pattern_entries(
        tmp_path, PATTERN, words=WORDS, phone="S5", test_speakers=["Bo"]
    )
    assert [(e.path, e.name, e.label, e.speaker, e.split, e.start, e.end) for e in entries] == [
        (tmp_path / "ana/s5/3_1.wav", "ana/s5/3_1.wav", "3", "ana", "train", None, None),
        (tmp_path / "bo/s5/nueve_1.wav", "bo/s5/nueve_1.wav", "9", "bo", "test", None, None),
    ]
    assert [p.name for p in problems] == ["x.wav"]


def test_a_quarter_of_the_speakers_is_for_testing(tmp_path: Path):
    _put(tmp_path, *(f"{speaker}/{phone}/1_a.wav" for speaker in SPEAKERS for phone in ("p", "q")))
    speakers = _split(tmp_path)
    first = [hashlib.sha256(name.encode()).hexdigest()[0] for name in SPEAKERS]
    assert speakers["test"] == {n for n, h in zip(SPEAKERS, first, strict=True) if h in "0123"}
    assert 15 <= len(speakers["test"]) <= 35
    assert _split(tmp_path, phone="p") == speakers


def test_more_speakers_do_not_move_the_others(tmp_path: Path):
    _put(tmp_path, *(f"{speaker}/p/1_a.wav" for speaker in SPEAKERS[:30]))
    before = _split(tmp_path)
    _put(tmp_path, *(f"{speaker}/p/1_a.wav" for speaker in SPEAKERS[30:]))
    after = _split(tmp_path)
    assert before["test"] < after["test"]
    assert before["train"] < after["train"]


@pytest.mark.parametrize("share", ["0123", "456789abcdef"])
def test_both_splits_have_a_speaker(tmp_path: Path, share: str):
    """Of speakers who would all be for testing, or all for training."""
    alike = [s for s in SPEAKERS if hashlib.sha256(s.encode()).hexdigest()[0] in share][:4]
    _put(tmp_path, *(f"{speaker}/p/1_a.wav" for speaker in alike))
    speakers = _split(tmp_path)
    place = {s: hashlib.sha256(s.encode()).digest() for s in alike}
    if share == "0123":
        assert speakers["train"] == {max(alike, key=place.__getitem__)}
    else:
        assert speakers["test"] == {min(alike, key=place.__getitem__)}


def test_one_speaker_cannot_be_split(tmp_path: Path):
    _put(tmp_path, "ana/p/1_a.wav", "ana/p/2_a.wav")
    with pytest.raises(
        CorpusError, match=r"no recording is left for testing: there are 2 of 1 speakers \(ana\)"
    ):
        _split(tmp_path)


def test_test_speakers_by_name(tmp_path: Path):
    _put(tmp_path, *(f"{speaker}/p/1_a.wav" for speaker in ("ana", "bo", "cy")))
    assert _split(tmp_path, test_speakers=["BO", "cy"])["test"] == {"bo", "cy"}
    with pytest.raises(CorpusError, match="no recordings of the test speakers dee, eve"):
        _split(tmp_path, test_speakers=["eve", "dee", "bo"])
    with pytest.raises(CorpusError, match="left for training"):
        _split(tmp_path, test_speakers=["ana", "bo", "cy"])
    with pytest.raises(CorpusError, match="left for testing"):
        _split(tmp_path, test_speakers=[])


def test_split_by_name(tmp_path: Path):
    _put(tmp_path, "train/ana/1.wav", "Train/bo/2.wav", "TEST/ana/3.wav", "dev/ana/4.wav")
    pattern = "{split}/{speaker}/{digit}.wav"
    entries, problems = pattern_entries(tmp_path, pattern, words=WORDS)
    assert {e.name: e.split for e in entries} == {
        "train/ana/1.wav": "train",
        "Train/bo/2.wav": "train",
        "TEST/ana/3.wav": "test",
    }
    assert [p.name for p in problems] == ["dev/ana/4.wav"]
    with pytest.raises(CorpusError, match=r"the pattern has {split} as well"):
        pattern_entries(tmp_path, pattern, words=WORDS, test_speakers=["ana"])
    (tmp_path / "TEST" / "ana" / "3.wav").unlink()
    with pytest.raises(CorpusError, match="left for testing"):
        pattern_entries(tmp_path, pattern, words=WORDS)


def test_real_names(data_root: Path):
    words = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    entries, problems = pattern_entries(
        data_root / "fsdd", "recordings/{digit}_{speaker}_{any}.wav", words=words
    )
    assert (len(entries), problems) == (3000, [])
    assert len({e.speaker for e in entries}) == 6
    assert [e.label for e in entries] == [e.path.name[0] for e in entries]
