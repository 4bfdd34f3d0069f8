"""results.json and evaluation.json are what their schemas say, of every model and, but for what
came since, of the versions that docs/results/ was made with."""

import json
import shutil
from functools import cache

import pytest

from pvae_pyro.experiments import evaluate
from tests.support.tiny_run import REPOSITORY

jsonschema = pytest.importorskip("jsonschema")

QUICK = ["--limit", "6", "--judge-steps", "1", "--num-samples", "2", "--likelihood-examples", "6"]
MODELS = ("pvae", "jmvae", "vae-speech", "vae-image")


@cache
def validator(name):
    schema = json.loads((REPOSITORY / "experiments" / f"{name}.schema.json").read_text("utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def wrong(name, content):
    return [f"{error.json_path}: {error.message}" for error in validator(name).iter_errors(content)]


@pytest.mark.parametrize("model", MODELS)
def test_results_of_every_model(small_runs, model):
    results = json.loads((small_runs[model] / "results.json").read_text("utf-8"))
    assert wrong("results", results) == []


@pytest.mark.parametrize("model", ["pvae", "vae-image"])
def test_evaluations(small_runs, environment, tmp_path, model):
    folder = shutil.copytree(small_runs[model], tmp_path / model)
    path = folder / "evaluation.json"
    assert evaluate.main([str(folder), *QUICK, "--only", "retrieval"]) == 0
    assert wrong("evaluation", json.loads(path.read_text("utf-8"))) == []  # of what is there so far
    assert evaluate.main([str(folder), *QUICK]) == 0
    content = json.loads(path.read_text("utf-8"))
    assert content.keys() == validator("evaluation").schema["properties"].keys()
    assert wrong("evaluation", content) == []


@pytest.mark.parametrize(
    ("where", "value", "told"),
    [
        (("purity", "z_sem", "speech"), 1.01, "$.purity.z_sem.speech: 1.01 is greater than"),
        (("active_units", "z_sem", "speech"), 2.5, "2.5 is not of type 'integer'"),
        (("test_terms", "elbo"), "-3", "'-3' is not of type 'number'"),
        (("config", "num_cells"), 0, "$.config.num_cells: 0 is less than"),
        (("config", "data_digest"), "abc", "does not match"),
        (("git_commit",), "HEAD", "does not match"),
        (("threads",), None, "None is not of type 'integer'"),
        (("surprise",), 1, "'surprise' was unexpected"),
    ],
)
def test_what_is_wrong_is_found(small_runs, where, value, told):
    results = json.loads((small_runs["pvae"] / "results.json").read_text("utf-8"))
    place = results
    for key in where[:-1]:
        place = place[key]
    place[where[-1]] = value
    (found,) = wrong("results", results)
    assert told in found


def test_all_of_results_must_be_there(small_runs):
    results = json.loads((small_runs["pvae"] / "results.json").read_text("utf-8"))
    for missing in results:
        rest = {key: value for key, value in results.items() if key != missing}
        assert wrong("results", rest) == [f"$: {missing!r} is a required property"]


def published():
    """Name and content of every result file in docs/results/."""
    folder = REPOSITORY / "docs" / "results"
    for path in sorted(folder.rglob("*.json")):
        content = json.loads(path.read_text("utf-8"))
        if "test_terms" in content:
            yield "results", path.relative_to(folder), content
        elif "checkpoint" in content:
            yield "evaluation", path.relative_to(folder), content


def test_published_files_lack_nothing_but_what_came_since():
    """A version adds fields; it takes none away and changes none but with evaluation's format."""
    files = list(published())
    assert {kind for kind, _, _ in files} == {"results", "evaluation"}
    for kind, name, content in files:
        for error in validator(kind).iter_errors(content):
            if kind == "evaluation" and error.json_path == "$.format":
                assert content["format"] < evaluate.FORMAT, name
            else:
                assert error.validator == "required", f"{name}: {error.json_path} {error.message}"
