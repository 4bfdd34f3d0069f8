"""Readers give back whatever a writer of their format wrote (property tests)."""

import csv
import io
import tempfile
from pathlib import Path

import numpy as np
import soundfile
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pvae_pyro.data.audio.reading import read_audio
from pvae_pyro.data.corpus import AudioError
from pvae_pyro.data.spelling import tidied
from pvae_pyro.data.table import read_table
from tests.support.sphere import sphere

# The same examples each time, without a database on disk.
same = settings(derandomize=True, database=None, deadline=None, max_examples=25)
TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20)


def written(content: bytes, name: str, folder: str) -> Path:
    path = Path(folder, name)
    path.write_bytes(content)
    return path


@same
@given(
    arrays(np.int16, st.integers(1, 600)),
    st.integers(4000, 192_000),
    st.sampled_from(["WAV", "WAVEX", "AIFF", "AU", "FLAC", "SPHERE", "SHORTEN"]),
)
def test_sounds_and_their_cut_copies(samples, rate, container):
    """The samples are exact, and a cut copy is refused."""
    assume(np.ptp(samples.astype(int)) > 2)
    assume(container != "FLAC" or rate < 1 << 16 or rate % 10 == 0)  # FLAC has no other rates
    if container in ("SPHERE", "SHORTEN"):
        content = sphere(samples, rate, coding="pcm" if container == "SPHERE" else "shorten")
    else:
        file = io.BytesIO()
        soundfile.write(file, samples, rate, "PCM_16", format=container)
        content = file.getvalue()
    with tempfile.TemporaryDirectory() as folder:
        found, at = read_audio(written(content, "a.wav", folder))
        assert at == rate
        assert np.array_equal(found * 2.0**15, samples)
        ends = [len(content) // 3, len(content) - 2]
        if container == "SHORTEN":  # without a checksum, a cut in its last block goes unnoticed
            ends = [500, 1000]
        for end in ends:
            try:
                read_audio(written(content[:end], "a.wav", folder))
            except AudioError as error:
                assert "a.wav" in str(error)  # noqa: PT017
            else:
                raise AssertionError(f"{container} cut at {end} of {len(content)}")


@same
@given(st.lists(st.tuples(TEXT, TEXT, st.sampled_from(["train", "Test", "dev"])), min_size=1))
def test_tables(rows):
    """Each line is a row or a problem, and no path leaves the root."""
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerows([("path", "label", "split"), *rows])
    with tempfile.TemporaryDirectory() as folder:
        path = written(file.getvalue().encode(), "a.csv", folder)
        found, problems, _ = read_table(path, ("path", "label", "split"))
        root = Path(folder).resolve()
    assert len(found) + len(problems) == len(rows)
    for row in found:
        assert row.path.is_relative_to(root)
        assert row.fields["label"]
        assert (row.fields["path"], row.fields["label"]) in {
            (path.strip(), tidied(label)) for path, label, _ in rows
        }
