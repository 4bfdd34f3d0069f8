"""What is prepared for a machine with a GPU, tried out on CPU: tiny, and of synthetic data."""

import json
import subprocess
import sys
import zipfile
from importlib.metadata import packages_distributions

import numpy as np
import pytest
import torch

from pvae_pyro.data.examples import Examples, Normalisation
from pvae_pyro.experiments.bench import gpu_check, gpu_pack, gpu_parts, speed
from pvae_pyro.experiments.support.build import PRECISIONS
from pvae_pyro.experiments.support.config import OBJECTIVES
from tests.support.configs import config
from tests.support.tiny_run import REPOSITORY

# Installed on the machine with the GPU (what `pip list` says there, without packages of CUDA).
MACHINE = (
    *("torch", "filelock", "fsspec", "jinja2", "markupsafe", "mpmath", "networkx", "setuptools"),
    *("sympy", "typing-extensions", "numpy", "safetensors", "tqdm"),
    *("scikit-learn", "joblib", "cloudpickle", "narwhals", "scipy", "threadpoolctl"),
)
# With the modules of all other packages not found, as they would not be there.
BARE = """
import sys
sys.modules |= dict.fromkeys(sys.argv[1:])
import pvae_pyro.experiments.bench.gpu_check, tests.conftest
from pvae_pyro.experiments.bench.gpu_parts import files_with_cuda_tests
for file in files_with_cuda_tests():
    __import__(".".join(file.with_suffix("").parts[-3:]))
print(*sorted(sys.modules))
"""


def noise():
    """60 spoken words and 200 images."""
    rng = np.random.default_rng(0)
    offsets = np.concatenate([[0], rng.integers(1, 10, 60).cumsum()])
    frames = rng.standard_normal((offsets[-1], 80), dtype=np.float32)
    pixels = rng.integers(256, size=(200, 1, 28, 28), dtype=np.uint8)
    of_frames = Normalisation(np.zeros(80, np.float32), np.ones(80, np.float32))
    of_pixels = Normalisation(np.array(0, np.float32), np.array(255, np.float32))
    return {
        "speech": Examples(frames, rng.integers(10, size=60), of_frames, offsets),
        "image": Examples(pixels, rng.integers(10, size=200), of_pixels),
    }


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """A folder as of gpu_pack.py, of noise; its one wheel says what it is."""
    folder = tmp_path_factory.mktemp("packed")
    examples = noise()
    configs = {
        name: config("--preset", "paper", "--objective", name, max_frames=20) for name in OBJECTIVES
    }
    about = {
        "commit": "abc",
        "corpus": "noise",
        "classes": [*"0123456789"],
        "configs": {name: of.model_dump(mode="json") for name, of in configs.items()},
    }
    gpu_pack.write_data(folder, {"train": examples, "test": examples}, about)
    (folder / gpu_pack.WHEELS).mkdir()
    with zipfile.ZipFile(folder / gpu_pack.WHEELS / "packed-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("only_in_a_wheel.py", "VALUE = 3\n")
    return folder


@pytest.fixture
def check(packed, tmp_path, monkeypatch):
    """Runs the check; returns its exit code and what it wrote."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    file = tmp_path / "found.json"

    def run(*options):
        own = ["--packed", str(packed), "--device", "cpu", "--tiny", "--json", str(file)]
        return gpu_check.main([*own, *options]), json.loads(file.read_text())

    return run


def test_the_gpu_check_imports_only_packages_of_the_machine():
    there = {*MACHINE, *gpu_pack.PACKAGES, *gpu_pack.OF_TESTS, "pvae-pyro"}
    lacking = [
        module
        for module, packages in packages_distributions().items()
        if there.isdisjoint(package.lower().replace("_", "-") for package in packages)
    ]
    assert {"torchaudio", "soundfile", "PIL", "hypothesis"} <= {*lacking}
    done = subprocess.run(
        [sys.executable, "-c", BARE, *lacking], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    imported = done.stdout.split()
    assert {"sklearn.cluster", "tests.models.test_models", "tests.nn.test_ragged_lstm"} <= {
        *imported
    }
    assert "tests.bench.test_gpu_check" not in imported


def test_every_part_but_the_tests_reports_its_results(check, monkeypatch):
    code, found = check("--parts", "steps", "resume", "paper", "ours")
    assert code == 0
    assert found["packed"] == {"commit": "abc", "corpus": "noise"}
    parts = found["parts"]
    for objective in OBJECTIVES:
        for precision in PRECISIONS:
            of = parts["steps"][f"{objective}, {precision}"]
            by_hand = speed.BY_HAND if objective == "paper" else ()
            assert of.keys() == {speed.PYRO, *by_hand}
            assert all(0 < one["least"] <= one["median"] <= one["greatest"] for one in of.values())
            losses = [float(one["loss"]) for one in of.values()]
            assert losses == pytest.approx([losses[0]] * len(of), rel=0.1)  # the noise differs
        assert parts[objective]["epochs"] == parts[objective]["of_epochs"] == 1
        purities = parts[objective]["purity"]
        assert {latent: {*of} for latent, of in purities.items()} == {
            "z_sem": {"speech", "image"},
            "z_style": {"speech", "image"},
        }
    resumed = parts["resume"]
    assert resumed["resumed"] == resumed["again"] == {"bit_equal": True, "largest_difference": 0.0}
    assert "only_in_a_wheel" not in sys.modules


def test_a_part_that_fails_loses_no_other(check, monkeypatch):
    def broken(check):
        import only_in_a_wheel

        raise RuntimeError(f"no device {only_in_a_wheel.VALUE}")

    monkeypatch.setattr(gpu_parts, "steps", broken)
    code, found = check("--parts", "steps", "paper")
    assert code == 1
    assert "RuntimeError: no device 3" in found["parts"]["steps"]["error"]
    assert found["parts"]["paper"]["epochs"] == 1


def test_passed_failed_and_skipped_tests_are_counted(tmp_path):
    file = tmp_path / "test_some.py"
    marked = "@pytest.mark.cuda\ndef test_{}():\n    {}\n"
    bodies = {"a": "pass", "b": "assert 0", "c": "pytest.skip('no')"}
    content = "".join(marked.format(*item) for item in bodies.items())
    file.write_text(f"import pytest\n{content}def test_other(): assert 0\n")
    found = gpu_parts.run_tests([file])
    counts = {name: found[name] for name in ("passed", "failed", "skipped")}
    assert counts == {"passed": 1, "failed": 1, "skipped": 1}
    assert "test_b" in found["output"]


def test_packed_data_are_read_back(packed):
    partitions, _ = gpu_pack.read_data(packed)
    written = noise()["speech"]
    read = partitions["test"]["speech"]
    assert read.values.dtype == np.float32
    np.testing.assert_allclose(read.values, written.values, atol=2e-3)
    for name in ("labels", "offsets"):
        np.testing.assert_array_equal(getattr(read, name), getattr(written, name))
    np.testing.assert_array_equal(read.normalisation.scale, written.normalisation.scale)
    assert partitions["train"]["image"].values.dtype == np.uint8


def test_a_missing_gpu_or_packed_folder_is_an_error(tmp_path, packed, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    for options, told in ((["--packed", str(tmp_path)], "gpu_pack.py"), ([], "--device cpu")):
        with pytest.raises(SystemExit, match="2"):
            gpu_check.main(options or ["--packed", str(packed)])
        assert told in capsys.readouterr().err
