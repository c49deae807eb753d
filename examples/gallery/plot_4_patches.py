"""
From files to patches
=====================

The whole way on a small cohort: `softlabels init` begins a project, `snakemake` computes it, and a data set streams
patches of image and soft label. The volumes are made up here: a bright ball in noise, its mask beside it.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import nibabel
import numpy as np


def run(*command: str) -> None:
    """Run a command in the project, as one types it."""
    subprocess.run([sys.executable, "-m", *command], cwd=project, check=True, capture_output=True)


scratch = tempfile.TemporaryDirectory()
project = Path(scratch.name)
run("softlabels", "init")

# %%
# A case is a line of the sheet: an id, an image of each channel, and a label file.

rows = ["case\timage:image\tlabel"]
z, y, x = np.indices((24, 48, 48))
for number in range(2):
    radius = np.sqrt((2 * (z - 12)) ** 2 + (y - 24) ** 2 + (x - 20 - 6 * number) ** 2)
    noise = np.random.default_rng(number).normal(0, 15, radius.shape)
    volumes = {"image": np.float32(100 * (radius < 13) + noise), "label": np.uint8(radius < 13)}
    for kind, values in volumes.items():
        image = nibabel.Nifti1Image(values.T, np.diag([1.0, 1.0, 2.0, 1.0]))
        nibabel.save(image, project / f"ball{number}_{kind}.nii.gz")
    rows.append(f"ball{number}\tball{number}_image.nii.gz\tball{number}_label.nii.gz")
(project / "cases.tsv").write_text("\n".join(rows) + "\n")

# %%
# `init` wrote a `config.yaml` with two targets, GeoLS and SiNG. One command computes them, and leaves `index.json`.

run("softlabels", "check")
run("snakemake", "--cores", "2")

# %%
# A trainer opens the index. Patches are read straight from the store: only the chunks that they touch.

from softlabels.loader import SoftLabelDataset

dataset = SoftLabelDataset(project / "results" / "index.json", target="geols", patch_size=(8, 32, 32), alpha=1.0)
sample = dataset[0]
{name: tuple(value.shape) for name, value in sample.items() if hasattr(value, "shape")}

# %%

middle = sample["image"].shape[1] // 2
figure, axes = plt.subplots(1, 2, figsize=(7, 3.4), layout="constrained")
axes[0].imshow(sample["image"][0, middle], cmap="gray")
axes[0].set_title("image")
shown = axes[1].imshow(sample["soft_label"][1, middle], cmap="magma", vmin=0, vmax=1)
axes[1].set_title("soft label of the ball")
for axis in axes:
    axis.set_axis_off()
figure.colorbar(shown, ax=axes)
plt.show()
