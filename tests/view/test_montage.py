"""Laws of montages: a row per slice, a column per channel, and nothing of the store that is not shown."""

import numpy as np
import pytest
from helpers.made_cohort import CLASSES, SHAPES, key_of, publish
from helpers.made_entries import node, titles

from softlabels.errors import InputError
from softlabels.pipeline.stages import STAGES
from softlabels.store import Layer, Lossless, Store
from softlabels.view import montage as montages
from softlabels.view.montage import PICTURES, ShownChannels, montage, shown_channels

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
    # Of one class, its seeds alone.
    one = montage(node(case, "seeds", store.find(key_of("few"))), n_slices=1, class_name="tumour")
    (panel,) = [ax for ax in one.axes if ax.get_title() == "seeds of all slices"]
    dots = [points for points in panel.collections if hasattr(points, "get_sizes") and points.get_sizes().size]
    assert sum(len(points.get_offsets()) for points in dots) == 1


def test_an_unknown_stage_is_refused(case):
    with pytest.raises(InputError, match="stage: got 'labels'"):
        montage(node(case, "labels", case.case.entry))


def test_a_montage_says_what_it_leaves_out_and_shows_what_is_asked_for(case, monkeypatch):
    monkeypatch.setattr(montages, "MAX_CHANNELS", 2)
    distance = node(case, "distance", case.targets["geols"].distance)
    assert shown_channels(distance) == ShownChannels((0, 1), 1)
    assert "2 of 3 maps shown" in montage(distance, n_slices=1).get_supxlabel()
    assert shown_channels(distance, "tumour") == shown_channels(distance, "tumour", "T1") == ShownChannels((2,), 0)
    figure = montage(distance, n_slices=1, class_name="tumour")
    assert titles(figure)[1:] == ["distance to seeds of tumour (T1)"]
    assert "shown" not in figure.get_supxlabel()
    prepare = node(case, "prepare", case.case.entry)
    assert shown_channels(prepare, channel="T2") == ShownChannels((1,), 0)
    assert shown_channels(node(case, "seeds", case.targets["geols"].seeds), "organ") == ShownChannels((1,), 0)


@pytest.mark.parametrize(("class_name", "channel"), [("nobody", None), (None, "T9"), ("organ", "T2")])
def test_a_choice_that_leaves_nothing_is_refused_with_what_there_is(case, class_name, channel):
    got = {"nobody": "class nobody", None: "channel T9", "organ": "class organ and channel T2"}[class_name]
    known = "classes: background, organ, tumour; channels: T1"
    with pytest.raises(InputError, match=f"^show: got {got}, expected some of the {known}$"):
        montage(node(case, "distance", case.targets["geols"].distance), class_name=class_name, channel=channel)


def test_a_single_class_is_shown_where_it_differs_from_its_mask(case):
    target = case.targets["geols"].target
    figure = montage(node(case, "target", target.entry), n_slices=1, class_name="organ", slice_number=11)
    (panel,) = [ax for ax in figure.axes if ax.get_title().endswith("organ, minus hard")]
    shown = panel.images[0].get_array()
    window = ((10, 11), (0, SHAPES[CASE][1]), (0, SHAPES[CASE][2]))
    difference = target.soft_label(window)[1] - target.masks(window)[1]
    assert np.abs(shown).max() == pytest.approx(np.abs(difference).max())
    low, high = panel.images[0].get_clim()
    assert low == -high
    assert "axial slice 11 of 20" in figure.get_supxlabel()


def test_a_slice_that_the_plane_has_not_is_refused(case):
    with pytest.raises(InputError, match="slice: got 21, expected 1 to 20 in the axial plane"):
        montage(node(case, "prepare", case.case.entry), slice_number=21)
