"""
Where distances start: seeds
============================

The geodesic methods measure distances from seeds inside each class. Where the seeds are decides what "deep inside"
means. Here are the seeds of white matter by every strategy, in a part of the slice. Each structure gets at least one:
where a strategy leaves a component without, its deepest voxels fill in, and the report says so.
"""

import matplotlib.pyplot as plt
from brain_slice import SPACING, brain_slice

from softlabels.seeds import STRATEGIES, make_seeds

image, labels, _ = brain_slice()
white = (labels == 2)[None]
part = (0, slice(60, 130), slice(95, 165))

columns = -(-len(STRATEGIES) // 2)
figure, axes = plt.subplots(2, columns, figsize=(3.2 * columns, 6.6), layout="constrained")
for axis in axes.flat:
    axis.set_axis_off()
for axis, name in zip(axes.flat, STRATEGIES, strict=False):
    strategy = STRATEGIES[name](**({"n": 40} if name == "random" else {}))
    seeds, (report,) = make_seeds(white, SPACING, strategy, class_names=["white matter"], case_id="icbm152")
    axis.imshow(image[part], cmap="gray")
    axis.contour(white[0][part], [0.5], colors="tab:blue", linewidths=0.8)
    row, column = seeds[0][part].nonzero()
    axis.scatter(column, row, s=4, color="tab:orange")
    axis.set_title(f"{name}: {report['n_seeds']} seeds")
plt.show()

# %%
# The report of the last strategy, as it is stored beside the seeds:

report
