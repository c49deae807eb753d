"""The stage that computes the soft label of one method."""

from __future__ import annotations

import numpy as np

from softlabels.errors import InputError
from softlabels.pipeline.stages.base import Result, Stage
from softlabels.pipeline.stages.distance import DISTANCE_BITS
from softlabels.store import Integer, Layer, Rounded


class Target(Stage):
    """The soft label of one method."""

    def compute(self) -> Result:
        """Return the map that training will read, with its quality figures."""
        from softlabels.methods import METHODS
        from softlabels.methods.quality import quality_figures

        options = dict(self.params)
        method, variant = METHODS[options.pop("method")], options.pop("variant")
        classes, precision = options.pop("classes"), options.pop("precision")
        inputs = self._inputs(classes, method.needs)
        target = method.compute(inputs, variant=variant, **options)
        encoding = _encoding(method.value_range(variant), precision)
        layer = Layer("target", target.values, channels=inputs.class_names, encoding=encoding)
        of_classes = [value for c in classes for value in c["values"]]
        are_exclusive = len(set(of_classes)) == len(of_classes)
        quality = quality_figures(target.values, inputs.masks, kind=method.kind, are_exclusive=are_exclusive)
        quality |= {"flags": target.flags, "notes": target.notes}
        return Result([layer], self.entries["prepare"].grid, quality)

    def _inputs(self, classes: list[dict], needs: frozenset[str]):
        """Return what the method needs of this case, and nothing else."""
        from softlabels.methods import TargetInputs

        found = {}
        if "image" in needs:
            found["image"] = self.read("prepare", "image")
        if "seeds" in needs:
            found["seeds"] = self.read("seeds", "seeds")
        if "distance" in needs:
            distance = self.read("distance", "distance")
            found["distance"] = distance.reshape(-1, len(classes), *distance.shape[1:])
        if "raters" in needs:
            found["raters"] = self._rater_masks(classes)
        if "source_labels" in needs:
            found |= self._source(classes)
        return TargetInputs(
            masks=self.masks(classes),
            spacing=self.entries["prepare"].grid.spacing,
            class_names=tuple(c["name"] for c in classes),
            background=next((i for i, c in enumerate(classes) if c["values"] == [0]), None),
            domain=self.domain(),
            threads=self.job.threads or 1,
            **found,
        )

    def _rater_masks(self, classes: list[dict]) -> np.ndarray:
        """Return the (R, C, D, H, W) masks of all raters."""
        if "raters" not in self.entries["prepare"].layers:
            raise InputError(
                f"case {self.job.case.id}: got one label file, expected several raters. "
                "Add columns 'label:<rater>' to the case sheet"
            )
        raters = self.read("prepare", "raters")
        return np.stack([[np.isin(labels, c["values"]) for c in classes] for labels in raters])

    def _source(self, classes: list[dict]) -> dict:
        """Return the masks on the label file's own grid, and the way there from the target grid."""
        from softlabels.inputs.case import read_volume

        source = read_volume(self.job.case.label, role="label")
        mapping = np.linalg.inv(source.grid.affine_ras) @ self.entries["prepare"].grid.affine_ras
        masks = np.stack([np.isin(source.values, c["values"]) for c in classes])
        return {"source_masks": masks, "source_from_target": mapping}


def _encoding(bounds: tuple[float, float] | None, precision: str) -> Integer | Rounded:
    """Return how a target map is stored: integers between its bounds, else rounded floats."""
    if bounds is None:
        return Rounded(DISTANCE_BITS)
    return Integer.signed(precision) if bounds == (-1.0, 1.0) else Integer(precision, *bounds)
