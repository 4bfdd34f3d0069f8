"""What a run may be: presets, objectives, models, and which options go together."""

from typing import Any

import torch

from pvae_pyro.models.modalities import SPOKEN

# `paper`: Hsu & Glass 2018, as far as its text survives (README, "Constants").
# `quick`: the same images, a smaller LSTM, smaller batches, fewer steps: minutes on two cores.
PRESETS: dict[str, dict[str, Any]] = {
    "paper": {"epochs": 400, "batch_size": 256, "num_cells": 512},
    "quick": {"steps": 3200, "batch_size": 64, "num_cells": 256},
}
# `paper`: its plain setting; scales and weights that its text has lost are as in the README.
# `ours`: what docs/objective.md found to work, with two terms that the paper lacks (γ, δ).
OBJECTIVES: dict[str, dict[str, float]] = {
    "paper": {
        "alpha": 1.0,
        "beta": 100.0,
        "margin": 0.5,
        "length_scale": 1.0,
        "gamma": 0.0,
        "delta": 0.0,
        "speech_scale": 1.0,
        "image_scale": 1.0,
    },
    "ours": {
        "alpha": 3.0,
        "beta": 100.0,
        "margin": 0.5,
        "length_scale": 3.0,
        "gamma": 100.0,
        "delta": 1.0,
        "speech_scale": 1.0,
        "image_scale": 0.5,
    },
}
# What networks compute in, where torch holds it safe; parameters and distributions are float32.
PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16}
MODELS = ("pvae", "jmvae")  # and vae-NAME, of one modality
VAE = "vae-"
# Of z_sem, or of a baseline's z: models/priors.py, models/flow.py.
PRIORS = ("normal", "mixture", "vamp", "flow")
OF_COMPONENTS = ("mixture", "vamp")
# Of the command and the place, not of what is trained.
NOT_CONFIGURATION = ("data", "out", "resume", "report")
# What may change when a run is taken up again: how long, where, and what is kept of it.
MAY_CHANGE = ("epochs", "device", "checkpoint_seconds", "skip_bad_batches", "best_of")
# Where data lie: may change where they have moved, which their digest decides.
PLACES = (
    *("dataset", "image_dataset", "spanish_dataset"),
    *("folder", "alignments", "manifest_root", "image_root"),
)
HOW_LONG = ("epochs", "steps")


# Options that say nothing to some models, or beside a likelihood.
OF_PVAE = ("beta", "margin", "length_scale", "gamma", "delta")
OF_NETWORKS = {
    **dict.fromkeys(SPOKEN, ("speech_scale", "duration_scale", "num_cells", "speech_encoder")),
    "image": ("image_scale", "image_likelihood"),
}
