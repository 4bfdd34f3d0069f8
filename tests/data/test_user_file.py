"""A user's own files are prepared as training data are."""

import numpy as np
import pytest
import soundfile
from PIL import Image

from pvae_pyro.data.audio.log_mel import LogMel
from pvae_pyro.data.corpus import AudioError
from pvae_pyro.data.examples import Normalisation
from pvae_pyro.data.pictures.framing import Framing
from pvae_pyro.data.user_file import kind_of, observation, read_picture, read_sound

SETTINGS = LogMel(8000)
USUAL = Normalisation(np.full(80, -6.0, np.float32), np.full(80, 2.0, np.float32))


def word(rate: int, gain: float = 0.3) -> np.ndarray:
    """Half a second of a buzz in a second of near silence."""
    time = np.arange(rate) / rate
    buzz = sum(np.sin(2 * np.pi * 150 * k * time) / k for k in range(1, 20))
    voiced = (time > 0.25) & (time < 0.75)
    return gain * buzz * voiced / 3 + 1e-4 * np.random.default_rng(0).normal(size=rate)


@pytest.mark.parametrize(
    ("name", "rate", "channels", "subtype"),
    [("a.wav", 44100, 2, "PCM_16"), ("b.wav", 22050, 1, "PCM_U8"), ("c.ogg", 16000, 1, "VORBIS")],
)
def test_features_hardly_depend_on_the_format(tmp_path, name, rate, channels, subtype) -> None:
    plain = tmp_path / "plain.wav"
    soundfile.write(plain, word(8000), 8000)
    expected = read_sound(plain, SETTINGS, USUAL)
    path = tmp_path / name
    soundfile.write(path, np.stack([word(rate)] * channels, 1), rate, subtype=subtype)
    assert kind_of(path) == "sound"
    found = read_sound(path, SETTINGS, USUAL)
    assert abs(len(found) - len(expected)) <= 2
    frames = min(len(found), len(expected)) - 4
    difference = (found[:frames] - expected[:frames])[expected[:frames] > -7]
    # With eight bits, silence is louder, and so the rest is made fainter.
    assert np.abs(np.median(difference)) < (1.0 if subtype == "PCM_U8" else 0.5)


def test_one_of_several_channels_can_be_selected(tmp_path) -> None:
    left = word(8000).astype(np.float32)
    path = tmp_path / "both.wav"
    soundfile.write(path, np.stack([0.5 * left, -left], 1), 8000, subtype="FLOAT")
    with pytest.raises(AudioError, match="--channel 1"):
        read_sound(path, SETTINGS, USUAL)
    soundfile.write(tmp_path / "right.wav", -left, 8000, subtype="FLOAT")
    expected = read_sound(tmp_path / "right.wav", SETTINGS, USUAL)
    assert np.array_equal(read_sound(path, SETTINGS, USUAL, channel=2), expected)


@pytest.mark.parametrize("gain", [0.001, 0.05, 0.9])
def test_a_level_far_from_the_training_data_is_changed(tmp_path, gain) -> None:
    soundfile.write(tmp_path / "a.wav", word(8000, gain), 8000, subtype="FLOAT")
    original = SETTINGS(*soundfile.read(tmp_path / "a.wav", dtype="float32"))
    found = read_sound(tmp_path / "a.wav", SETTINGS, USUAL, trim=False)
    before, after = (float(USUAL.apply(log_mel).mean()) for log_mel in (original, found))
    assert after == pytest.approx(np.clip(before, -1, 1), abs=0.05)
    if abs(before) < 1:
        assert np.array_equal(found, original)


def test_silence_is_trimmed(tmp_path) -> None:
    soundfile.write(tmp_path / "a.wav", word(8000), 8000)
    trimmed = read_sound(tmp_path / "a.wav", SETTINGS, USUAL)
    assert np.array_equal(read_sound(tmp_path / "a.wav", SETTINGS, USUAL, trim=True), trimmed)
    assert len(read_sound(tmp_path / "a.wav", SETTINGS, USUAL, trim=False)) == 101
    assert 45 <= len(trimmed) <= 70


def test_unusable_files_are_refused(tmp_path) -> None:
    long = np.tile(word(8000)[2000:6000], 8)
    soundfile.write(tmp_path / "long.wav", long, 8000)
    with pytest.raises(AudioError, match=r"long\.wav: 4\.0 s of speech") as error:
        read_sound(tmp_path / "long.wav", SETTINGS, USUAL, trim=False)
    assert error.value.kind == "too long"
    with pytest.raises(AudioError, match=r"none\.wav") as error:
        read_sound(tmp_path / "none.wav", SETTINGS, USUAL)
    assert error.value.kind == "missing"
    with pytest.raises(ValueError, match=r"word\.txt: its name must end"):
        kind_of("word.txt")


def test_observations_are_normalised_batches_of_one(tmp_path) -> None:
    plain = Normalisation(np.float32(2.0), np.float32(4.0))
    speech = observation(np.full((7, 80), 6.0, np.float32), plain)
    assert speech.value.shape == (1, 7, 80)
    assert speech.lengths.tolist() == [7]
    assert (speech.value == 1).all()
    image = observation(np.full((3, 40, 40), 10, np.uint8), plain)
    assert image.value.shape == (1, 3, 40, 40)
    assert image.lengths is None
    assert (image.value == 2).all()


@pytest.fixture
def paper(tmp_path):
    """A dark stroke on white, 20 of 60 pixels high."""
    pixels = np.full((60, 60), 240, np.uint8)
    pixels[20:40, 28:33] = 10
    Image.fromarray(pixels).save(tmp_path / "one.png")
    return tmp_path / "one.png"


@pytest.mark.parametrize(
    ("like_mnist", "corner", "said"), [(True, 0, "MNIST"), (False, 240, "not exchanged")]
)
def test_light_and_dark_are_exchanged_for_a_run_on_mnist_alone(
    paper, like_mnist, corner, said
) -> None:
    pixels, done = read_picture(paper, like_mnist=like_mnist)
    assert pixels[0, 0, 0] == corner
    assert said in " ".join(done)
    assert kind_of(paper.with_suffix(".PNG")) == "picture"


def drawings(ground: int, height: int, number: int = 20) -> np.ndarray:
    """Strokes of one height at several places on a ground."""
    pixels = np.full((number, 28, 28), ground, np.uint8)
    for n, image in enumerate(pixels):
        image[1 + n % 3 : 1 + n % 3 + height, 5 + n % 8 : 8 + n % 8] = 255 - ground
    return pixels


@pytest.mark.parametrize("ground", [0, 255])
@pytest.mark.parametrize(("height", "expected"), [(9, 9), (20, 20)])
def test_a_picture_gets_the_framing_of_training_pictures(paper, ground, height, expected) -> None:
    framing = Framing.measured(drawings(ground, height))
    assert framing == Framing(ground == 255, height, height, height)
    assert Framing.of(framing.numbers()) == framing
    (pixels,), done = read_picture(paper, like_mnist=False, framing=framing)
    assert abs(int(pixels[0, 0]) - ground) < 20
    drawn = np.flatnonzero((abs(pixels.astype(int) - pixels[0, 0]) > 100).any(1))
    assert np.ptp(drawn) + 1 == pytest.approx(expected, abs=1)
    assert any("exchanged" in words for words in done) == (ground == 0)
    assert any("resized" in words for words in done) == (height == 20)


def test_a_picture_like_those_of_training_does_not_change(tmp_path) -> None:
    images = drawings(0, 20)
    Image.fromarray(images[3]).save(tmp_path / "a.png")
    (pixels,), done = read_picture(tmp_path / "a.png", False, Framing.measured(images))
    assert np.array_equal(pixels, images[3])
    assert done == ()


def test_noise_and_mixtures_of_grounds_have_no_framing() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (20, 28, 28), dtype=np.uint8)
    mixed = np.concatenate([drawings(0, 9), drawings(255, 9)])
    assert Framing.measured(noise) is None
    assert Framing.measured(mixed) is None
    with pytest.raises(ValueError):
        Framing.of([1, 9, 8, 10])
