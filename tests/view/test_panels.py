"""Laws of panels: every style draws whatever values it meets, and equal figures give equal files."""

import numpy as np
import pytest
from helpers.made_entries import node
from matplotlib.image import imread

from softlabels.errors import InputError
from softlabels.view.montage import montage
from softlabels.view.panels import STYLES, LegendEntry, Panel, draw_page, save_png


def test_equal_figures_give_equal_files(case, tmp_path):
    for name in ("a", "b"):
        save_png(montage(node(case, "prepare", case.case.entry), n_slices=1), tmp_path / "new" / name, dpi=50)
    assert (tmp_path / "new" / "a").read_bytes() == (tmp_path / "new" / "b").read_bytes()
    picture = imread(tmp_path / "new" / "a", format="png")
    assert picture.std() > 0.1
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["a", "b"]


def test_the_outline_of_a_row_of_voxels_is_where_the_row_changes():
    mask = np.array([[[False, True, True, False, False, True]]])
    panel = Panel("t", "probability", np.zeros((1, 6)), "bar", outline=mask)
    figure = draw_page([[panel]], spacing=(1, 1), letters=("",) * 4, title="t", footer="f")
    (outline,) = figure.axes[0].collections
    ends = np.concatenate([segment for path in outline.get_paths() for segment in path.to_polygons(closed_only=False)])
    assert sorted(set(ends[:, 0])) == [0.5, 2.5, 4.5] and sorted(set(ends[:, 1])) == [-0.5, 0.5]


@pytest.mark.parametrize("style", STYLES)
def test_every_style_draws_constant_and_unreached_values(style, tmp_path):
    values = np.full((4, 5), np.inf, np.float32)
    masks = np.zeros((1, 4, 5), bool)
    is_mask = style in ("labels", "seeds")
    panel = Panel(
        "t", style, masks if is_mask else values, "bar", under=values, outline=masks, legend=(LegendEntry("x", "red"),)
    )
    figure = draw_page([[panel, None]], spacing=(1, 1), letters=("R", "L", "A", "P"), title="t", footer="f")
    save_png(figure, tmp_path / "x.png", dpi=40)
    assert (tmp_path / "x.png").stat().st_size > 1000


def test_a_panel_without_a_style_or_an_image_is_refused():
    with pytest.raises(InputError, match="panel style: got 'rainbow'"):
        Panel("t", "rainbow", np.zeros((2, 2)), "bar")
    with pytest.raises(InputError, match="panel 't': got no image, expected one beneath seeds"):
        Panel("t", "seeds", np.zeros((1, 2, 2), bool), "bar")
