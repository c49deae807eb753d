"""Laws of montages: a row per slice, a column per channel, and nothing of the store that is not shown."""

import numpy as np
import pytest
from helpers.made_cohort import CLASSES, SHAPES, key_of, publish
from helpers.made_entries import node, titles

from softlabels.errors import InputError
from softlabels.pipeline.stages import STAGES
from softlabels.store import Layer, Lossless, Store
from softlabels.view.montage import PICTURES, montage

CASE = "large"


def test_the_picture_that_each_stage_names_is_drawn():
    assert sorted(stage.picture for stage in STAGES.values()) == sorted(PICTURES)


@pytest.mark.parametrize("stage", ["prepare", "seeds", "distance", "target"])
def test_a_montage_has_a_row_per_slice_and_a_column_per_channel(case, stage):
    geols = case.targets["geols"]
    entry = {
        "prepare": case.case.entry,
        "seeds": geols.seeds,
        "distance": geols.distance,
        "target": geols.target.entry,
    }[stage]
    figure = montage(node(case, stage, entry), n_slices=2)
    columns = {"prepare": 3, "seeds": 2, "distance": 4, "target": 5}[stage]
    assert len(titles(figure)) == 2 * columns


def test_few_seeds_are_projected_from_all_slices(case, tmp_path):
    seeds = np.zeros((3, *SHAPES[CASE]), bool)
    seeds[1, 2, 30, 15] = seeds[2, -1, 35, 16] = True
    store = Store(tmp_path / "store")
    publish(store, key_of("few"), [Layer("seeds", seeds, [c.name for c in CLASSES], Lossless())], case.case.grid)
    figure = montage(node(case, "seeds", store.find(key_of("few"))), n_slices=1)
    (panel,) = [ax for ax in figure.axes if ax.get_title() == "seeds of all slices"]
    dots = [
        points.get_offsets() for points in panel.collections if hasattr(points, "get_sizes") and points.get_sizes().size
    ]
    assert sum(len(d) for d in dots) == 2


def test_an_unknown_stage_is_refused(case):
    with pytest.raises(InputError, match="stage: got 'labels'"):
        montage(node(case, "labels", case.case.entry))
