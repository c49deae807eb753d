"""
From a hard mask to soft labels
===============================

A hard mask says that a voxel is white matter or that it is not. Near the boundary that is more than an annotator knows.
Each method below replaces the mask with a map that is soft there; the last picture is the truth that all of them
approximate, the tissue probability of the atlas.
"""

import matplotlib.pyplot as plt
import numpy as np
from brain_slice import CLASSES, SPACING, brain_slice

from softlabels.geodesic import geodesic_distance
from softlabels.methods import METHODS, TargetInputs
from softlabels.seeds import STRATEGIES, make_seeds

image, labels, truth = brain_slice()
masks = np.stack([labels == value for value in range(3)])
inputs = {"masks": masks, "spacing": SPACING, "class_names": CLASSES, "background": 0}

# %%
# Two methods look at the mask alone: a Gaussian blurs it over some millimetres, SVLS over the nearest voxels.

maps = {"hard mask": masks.astype(np.float32)}
for method in (METHODS["gaussian"](sigma_mm=1.0), METHODS["svls"]()):
    maps[method.title] = method.compute(TargetInputs(**inputs)).values

# %%
# GeoLS also looks at the image. Distances run from the skeleton of each class, and a step costs more where intensities
# change, so that the map is sharp at a clear edge and soft at a faint one. There is one distance for each channel of
# the image and each class.

seeds, _ = make_seeds(masks, SPACING, STRATEGIES["skeleton"](), class_names=CLASSES, case_id="icbm152")
scaled = (image - image.mean()) / image.std()
distance = geodesic_distance(scaled, seeds, SPACING, metric="pythagorean", gamma=1.0)
maps["GeoLS"] = METHODS["geols"]().compute(TargetInputs(**inputs, distance=distance[None])).values

# %%
# The white matter of each, in a part of the slice.

maps["tissue probability"] = truth
part = (0, slice(60, 130), slice(95, 165))
figure, axes = plt.subplots(2, 3, figsize=(9, 6.4), layout="constrained")
axes[0, 0].imshow(image[part], cmap="gray")
axes[0, 0].set_title("T1")
for axis, (title, one) in zip(axes.flat[1:], maps.items(), strict=True):
    shown = axis.imshow(one[2][part], cmap="magma", vmin=0, vmax=1)
    axis.set_title(title)
for axis in axes.flat:
    axis.set_axis_off()
figure.colorbar(shown, ax=axes, label="white matter")
plt.show()
