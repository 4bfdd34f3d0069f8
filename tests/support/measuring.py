"""Measures of a model with judges that a test chooses."""

from types import SimpleNamespace
from unittest.mock import patch

from pvae_pyro.evaluate.run import MeasureSettings


def measured_by(module):
    """The function (model, guide or unimodal guides, judges, test, limit, seed) -> what `module`
    measures; three clusters."""

    def measured(model, guide, judges, test, limit=1000, seed=0):
        unimodal = getattr(guide, "unimodal", guide)
        run = SimpleNamespace(
            model=model, guide=guide, unimodal=dict(unimodal.items()), names=tuple(unimodal.keys()),
            test=test, device="cpu", num_clusters=3, data=SimpleNamespace(log_mels={}, pairs={}),
            model_before_fit=None,
        )  # fmt: skip
        with patch.object(module, "class_judges", lambda run, settings: judges):
            return module.measure(run, MeasureSettings(limit=limit), seed=seed)

    return measured
