# A notebook as text: open it in VS Code or PyCharm, or with jupytext in Jupyter (`jupytext --to ipynb docs/tutorial.py`), or
# run it: `python docs/tutorial.py`.
# ruff: noqa: E501

# %% [markdown]
# # From recordings to "say this digit in that voice"
#
# Spoken and written digits, a model of both, what it found, and what it can say. Everything is
# done by plain Pyro and torch; where a command does the same it is named. Some ten minutes on two
# CPU cores; with `EPOCHS=1 LIMIT=5` in the environment, seconds, and nothing is learnt.

# %%
import os
import sys
import tempfile
from functools import partial
from pathlib import Path

if "__file__" in globals():  # run as a file: by the code of this checkout, whatever is installed
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
import pyro
import torch
from matplotlib import pyplot
from pyro.infer import Predictive

from pvae_pyro import (
    PVAE,
    SVI,
    PairedLoader,
    PartitionedELBO,
    PartitionedGuide,
    digit_modalities,
    fit,
    generation,
    load_paired,
)
from pvae_pyro.data.audio.synthesis import level_matched, to_waveform, write_wav
from pvae_pyro.evaluate.clustering import evaluate_latents
from pvae_pyro.figures.grids import choose_examples
from pvae_pyro.figures.observations import SequenceAxes, panels
from pvae_pyro.figures.titled_panels import titled_panels_figure

limit, epochs = os.environ.get("LIMIT"), int(os.environ.get("EPOCHS", "40"))
out = Path(os.environ.get("OUT", tempfile.mkdtemp(prefix="tutorial-")))

# %% [markdown]
# ## Data
#
# Words and pictures that go together by class. `tidigit` is a licensed corpus; without it these
# are synthetic voices, and `data.corpus` says so. `fsdd` are people.

# %%
root = Path(os.environ.get("PVAE_DATA", "data"))
data = load_paired("tidigit", root, limit=int(limit) if limit else None)
print(data.corpus, {name: len(of) for name, of in data.train.items()})

# %% [markdown]
# A batch maps modality to observation. There are no labels in it, but labels paired the examples,
# anew in each epoch: the model is told which examples share a class, never which class it is
# (docs/data.md). Labels will also score what was found.

# %%
loader = PairedLoader(data.train, batch_size=64, seed=0)
batch = next(loader.epoch(0))
print({name: tuple(x.value.shape) for name, x in batch.items()}, batch["speech"].lengths[:5])

# %% [markdown]
# ## Model and guides
#
# `PVAE` is the generative process, a Pyro model: p(z_sem) Π_m p(z_style_m) p(x^m | z_sem, z_style_m).
# `PartitionedGuide` holds the guide of both modalities and one for each alone.

# %%
pyro.set_rng_seed(0)
longest = int(data.train["speech"].lengths.max())
modalities = digit_modalities(
    num_cells=256 if epochs > 1 else 16,
    max_frames=longest,
    image_scale=0.32,
    duration_scale=0.05,
)
model, guide = PVAE(modalities), PartitionedGuide(modalities)
print(
    f"{sum(p.numel() for p in (*model.parameters(), *guide.parameters())) / 1e6:.1f} M parameters"
)

# %% [markdown]
# ## Training
#
# The bound, the coherence of the guides (α), the contrast of z_sem across modalities (β), and three
# terms of ours that keep the class out of z_style (γ), the word in z_sem (δ), and the speaker out of
# it (ε; docs/objective.md).
# `python experiments/run_svi.py` is this with a command line.

# %%
elbo = PartitionedELBO(
    alpha=3.0, contrast="infonce", beta=60.0, length_scale=1.5, gamma=30.0, delta=1.0, epsilon=1.0
)
svi = SVI(model, guide, partial(torch.optim.Adam, lr=1e-3, betas=(0.95, 0.999), fused=True), elbo)
progress = fit(svi, loader, num_epochs=epochs, folder=out)
print(f"{progress.step} steps in {progress.seconds:.0f} s")

# %% [markdown]
# ## What was found
#
# k-means of posterior means, against the labels: z_sem should be pure, z_style should be at chance.

# %%
scores = evaluate_latents(guide.unimodal, data.test, len(data.classes), "cpu")
for latent, of in scores["purity"].items():
    for name, purity in of.items():
        print(
            f"{latent}, {name}: {purity:.3f} (chance {scores['purity_chance'][latent][name]:.3f})"
        )

# %% [markdown]
# ## Say what is written, in somebody's voice
#
# z_sem of an image, z_style of a recording; both from the guide of their modality alone.

# %%
images, speech = data.test["image"], data.test["speech"]
what = images.observation(choose_examples(images, range(min(4, len(data.classes))), seed=0))
voice = speech.observation(choose_examples(speech, [len(data.classes) - 1], seed=1))
spoken = generation.translate(model, guide, {"image": what}, "speech", style=voice)

log_mel = data.log_mels["speech"]
sound = SequenceAxes(log_mel.hop, log_mel.centre_frequencies)
shown = panels(voice, speech.normalisation) + panels(what, images.normalisation)
shown += panels(spoken, speech.normalisation)
titles = ["voice"] + ["what"] * len(what.value) + ["said"] * len(what.value)
axes = [sound] + [None] * len(what.value) + [sound] * len(what.value)
titled_panels_figure(shown, titles, axes).savefig(out / "spoken.png")

# %% [markdown]
# And back to sound: the normalisation undone, the Mel filters inverted, phases by Griffin and Lim.

# %%
for n, energies in enumerate(panels(spoken, speech.normalisation)):
    samples = to_waveform(np.ascontiguousarray(energies.T), log_mel)
    write_wav(out / f"spoken-{n}.wav", level_matched(samples, 0.1), log_mel.sample_rate)

# %% [markdown]
# ## Write it in that hand, and restyle
#
# The content of one picture in the style of another, and a walk through the styles of a picture.

# %%
hand = images.observation(choose_examples(images, [0], seed=3))
restyled = generation.restyle(model, guide, what, hand, "image")
ends = [generation.infer(guide, {"image": x}) for x in (what.part(0, 1), hand)]
walk = generation.interpolate(model, *ends, ["z_style_image"], ["image"], steps=6)["image"]
titled_panels_figure(
    [p for x in (hand, restyled, walk) for p in panels(x, images.normalisation)],
    ["hand"] + ["restyled"] * len(what.value) + ["between"] * 6,
).savefig(out / "restyled.png")

# %% [markdown]
# ## It is a Pyro model
#
# so draws with all their uncertainty are `Predictive`'s: five voices for each image.

# %%
draws = Predictive(model, guide=guide.unimodal["image"], num_samples=5)(
    {"image": what}, observed=()
)
print({site: tuple(values.shape) for site, values in draws.items()})
print(f"pictures and sounds are in {out}")
pyplot.close("all")
