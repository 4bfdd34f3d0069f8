"""What the columns of a table are called: ours, and the names that others give them."""

import re
from collections.abc import Sequence

from pvae_pyro.data.corpus import CorpusError
from pvae_pyro.errors import shown

# Names in NeMo, Hugging Face, Common Voice, DeepSpeech, Kaldi, ELAN, Praat and DCASE. A column
# with our own name takes precedence.
SYNONYMS = {
    "path": (
        *("file", "filename", "file_name", "filepath", "file_path", "audio", "audio_file"),
        *("audio_path", "audio_filepath", "audio_filename", "wav", "wav_path", "wav_filename"),
        *("image", "image_file", "image_path", "image_filename", "img", "img_path"),
    ),
    "label": (
        *("class", "class_name", "word", "text", "sentence", "keyword", "category", "target"),
        *("transcript", "transcription", "label_name", "event_label"),
    ),
    "speaker": ("speaker_id", "speakerid", "spk", "spk_id", "client_id", "talker", "subject"),
    "split": ("set", "subset", "partition"),
    "transcript": ("transcription", "text", "sentence", "normalized_text"),
    "start": ("begin", "onset", "offset", "start_time", "begin_time", "segment_start", "xmin"),
    "end": ("stop", "end_time", "stop_time", "segment_end", "xmax", "tmax"),
    "duration": ("dur", "segment_duration"),
    "channel": ("ch", "channel_id", "channel_number"),
}
_SECONDS = re.compile(r"_(s|secs?|seconds?)$")
_PART = re.compile(
    r"(^|_)(start|begin|beginning|onset|end|ending|stop|offset|dur|duration|length|bbox|"
    r"[xyt]_?(min|max))(_|$)|^(time|times|from|to|segment|segments|t_?\d)$"
)
# Beside a start these say where the part ends; alone they are the length of the file.
_COUNT = re.compile(r"^((num|n|number_of)_)?(samples|frames)$")


def name_columns(header: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """The names of a header's columns in lower case; those `wanted` by our name for them.

    Raises CorpusError for two columns with one meaning, and for an unknown column that looks like
    a part of a file (a time, a box): ignoring it would use the whole file instead of the part.
    """
    names = [" ".join(name.lower().split()) for name in header]
    plain = [_plain(name) for name in header]
    for role in wanted:
        found = [n for n, name in enumerate(plain) if name == role] or [
            n for n, name in enumerate(plain) if name in _synonyms(role, plain)
        ]
        if len(found) > 1:
            both = " and ".join(shown(header[n].strip()) for n in found)
            raise CorpusError(f"has two columns for {role}, {both}: call only one of them {role}")
        for n in found:
            names[n] = role
    for n, name in enumerate(names):
        counted = "start" in names and _COUNT.search(plain[n])
        if name not in wanted and (_PART.search(plain[n]) or counted):
            raise CorpusError(
                f"has a column {shown(header[n].strip())}, which looks like a part of a file: "
                "call it start, end or duration (in seconds, each once) if these can be used, or "
                "take it out"
            )
    return names


def num_known(header: Sequence[str], wanted: Sequence[str]) -> int:
    """How many of the columns have a name that is known for one of `wanted`."""
    plain = [_plain(name) for name in header]
    return sum(name == role or name in _synonyms(role, plain) for role in wanted for name in plain)


def _plain(name: str) -> str:
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)  # startTime
    return _SECONDS.sub("", re.sub(r"\W+", "_", words.lower()).strip("_"))


def _synonyms(role: str, header: Sequence[str]) -> tuple[str, ...]:
    known = SYNONYMS.get(role, ())
    # An offset is where a part starts (NeMo), but beside an onset where it ends (DCASE).
    if "onset" in header and role in ("start", "end"):
        return (*(set(known) - {"offset"}), *(["offset"] if role == "end" else []))
    return known
