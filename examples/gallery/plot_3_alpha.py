"""
What alpha does
===============

The stored map is not the training target yet. The loader blends it with the hard mask, and the weight, alpha for GeoLS,
is an argument of the loader: another value computes nothing anew. With alpha 0 the target is the hard mask, and with
alpha 1 the map itself.
"""

import matplotlib.pyplot as plt
import numpy as np
from brain_slice import CLASSES, SPACING, brain_slice

from softlabels.blend import blend
from softlabels.geodesic import geodesic_distance
from softlabels.methods import METHODS, TargetInputs
from softlabels.seeds import STRATEGIES, make_seeds

image, labels, truth = brain_slice()
masks = np.stack([labels == value for value in range(3)])
seeds, _ = make_seeds(masks, SPACING, STRATEGIES["skeleton"](), class_names=CLASSES, case_id="icbm152")
distance = geodesic_distance((image - image.mean()) / image.std(), seeds, SPACING, metric="pythagorean", gamma=1.0)
inputs = TargetInputs(masks, SPACING, CLASSES, background=0, distance=distance[None])
stored = METHODS["geols"]().compute(inputs).values

# %%
# A profile across the slice: the more alpha, the softer the boundary, while the sum over classes stays 1.

row, columns = 95, slice(95, 135)
figure, axis = plt.subplots(figsize=(8, 3.6), layout="constrained")
for alpha in (0.0, 0.1, 0.3, 1.0):
    target = blend(masks, stored, rule="mix_onehot", alpha=alpha)
    assert np.allclose(target.sum(axis=0), 1, atol=1e-6)
    axis.plot(target[2, 0, row, columns], label=f"alpha {alpha:g}", drawstyle="steps-mid")
axis.plot(truth[2, 0, row, columns], "k--", label="tissue probability")
axis.set(xlabel="voxel", ylabel="white matter")
axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))
plt.show()
