"""Laws of the pictures and of the NIfTI export: right slice, right way round, right place, labelled."""

import itertools
import subprocess
import sys
from dataclasses import replace

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from helpers.made_cohort import (
    CLASSES,
    SHAPES,
    key_of,
    make_cohort,
    open_made,
    publish,
    seeds_and_distance,
    volumes,
)
from helpers.made_project import Project
from matplotlib.image import imread

from softlabels.errors import InputError, StoreError
from softlabels.grid import Grid
from softlabels.pipeline.stages import STAGES
from softlabels.store import Layer, Lossless, Store
from softlabels.view import case_page
from softlabels.view.case_page import case_picture
from softlabels.view.entries import CaseEntries, NodeEntry, TargetEntries
from softlabels.view.export import export_layer, export_target, write_nifti
from softlabels.view.montage import PICTURES, montage
from softlabels.view.panels import STYLES, LegendEntry, Panel, draw_page, save_png
from softlabels.view.planes import PLANES, Plane, chosen_slices, content_box

CASE = "large"
ORIENTATIONS = [
    (order, signs) for order in itertools.permutations(range(3)) for signs in itertools.product([1, -1], repeat=3)
]


def oriented_grid(shape, order, signs, spacing=(1.0, 1.0, 1.0)):
    """Return a grid whose array axis a runs along world axis order[a] with the given sign."""
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis in range(3):
        affine[order[axis], axis] = signs[axis] * spacing[axis]
    return Grid(shape, spacing, affine)


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    """Return a case with all targets; GeoLS has seeds and a distance."""
    folder = tmp_path_factory.mktemp("cohort")
    prepared, targets = open_made(make_cohort(folder, {CASE: SHAPES[CASE]}), CASE)
    store, grid = Store(folder / "store"), Grid(SHAPES[CASE], (3.0, 1.0, 1.0))
    for layer in seeds_and_distance(CASE, SHAPES[CASE]):
        publish(store, key_of(layer.name), [layer], grid)
    upstream = {name: store.find(key_of(name)) for name in ("seeds", "distance")}
    entries = {name: TargetEntries(one, **(upstream if name == "geols" else {})) for name, one in targets.items()}
    return CaseEntries(prepared, entries)


def some(case, *names):
    """Return the case with some of its targets."""
    return CaseEntries(case.case, {name: case.targets[name] for name in names})


def described(entries, **changes):
    """Return a target whose description is changed."""
    target = entries.target
    return replace(entries, target=replace(target, description=replace(target.description, **changes)))


def node(case, stage, entry, name="geols"):
    """Return an entry of a stage as a node of the plan."""
    return NodeEntry(case.case, stage, entry, name, case.targets[name].target.description)


@pytest.mark.parametrize("plane", PLANES)
def test_every_orientation_is_shown_as_a_radiologist_holds_it(plane):
    for order, signs in ORIENTATIONS:
        grid = oriented_grid((3, 4, 5), order, signs)
        view = Plane.of(grid, plane)
        index = np.indices(grid.shape).reshape(3, -1)
        world = (grid.affine_ras[:3, :3] @ index).reshape(3, *grid.shape)
        page = view.page(world[(slice(None), *(slice(*pair) for pair in view.window(1, grid.shape)))])
        across, along, down = {"axial": (2, 0, 1), "coronal": (1, 0, 2), "sagittal": (0, 1, 2)}[plane]
        assert (np.diff(page[along], axis=1) < 0).all(), "columns run from right to left, or front to back"
        assert (np.diff(page[down], axis=0) < 0).all(), "rows run from front to back, or head to foot"
        assert (page[across] == page[across, 0, 0]).all()


@pytest.mark.parametrize(("order", "signs"), ORIENTATIONS[::5])
def test_an_axial_page_is_nibabels_canonical_slice_mirrored(order, signs):
    grid = oriented_grid((3, 4, 5), order, signs, (2.0, 1.5, 1.0))
    values = np.random.default_rng(0).random(grid.shape)
    canonical = nibabel.as_closest_canonical(nibabel.Nifti1Image(values.T, grid.to_nifti_affine())).get_fdata()
    view = Plane.of(grid, "axial")
    position = 1 if signs[view.axis] > 0 else grid.shape[view.axis] - 2
    page = view.page(values[tuple(slice(*pair) for pair in view.window(position, grid.shape))])
    np.testing.assert_array_equal(page, canonical[::-1, ::-1, 1].T)


def test_a_real_volume_of_another_orientation_is_shown_upright(shared_data):
    path = shared_data / "spinal_cord" / "t2.nii.gz"
    image = sitk.ReadImage(str(path))
    grid = Grid.from_sitk(image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection())
    canonical = nibabel.as_closest_canonical(nibabel.load(path)).get_fdata()
    view = Plane.of(grid, "sagittal")
    middle = grid.shape[view.axis] // 2
    page = view.page(sitk.GetArrayFromImage(image)[tuple(slice(*pair) for pair in view.window(middle, grid.shape))])
    assert any(np.array_equal(page, plane[::-1, ::-1].T) for plane in canonical)
    assert view.letters == ("A", "P", "S", "I")


def test_the_default_plane_shows_the_finest_pixels():
    assert Plane.of(Grid((5, 50, 50), (7.5, 0.5, 0.5))).name == "axial"
    assert Plane.of(oriented_grid((5, 50, 50), (1, 2, 0), (1, 1, 1), (7.5, 0.5, 0.5))).name == "coronal"
    assert Plane.of(oriented_grid((9, 9, 9), (0, 1, 2), (1, 1, 1))).name == "axial"


def test_a_2d_image_is_shown_as_its_array():
    view, image = Plane.of(Grid((1, 3, 4), (1.0, 1.0, 1.0))), np.arange(12).reshape(1, 3, 4)
    np.testing.assert_array_equal(view.page(image), image[0])
    assert view.letters == ("", "", "", "")


def test_an_unknown_plane_is_refused():
    with pytest.raises(InputError, match="'transverse', expected one of sagittal, coronal, axial"):
        Plane.of(Grid((3, 3, 3), (1.0, 1.0, 1.0)), "transverse")


def test_chosen_slices_ascend_and_hold_content():
    scores = np.array([0, 0, 5, 9, 9, 1, 0])
    assert chosen_slices(scores, 1) == [3]
    assert chosen_slices(scores, 3) == [2, 3, 4]
    assert chosen_slices(np.zeros(7), 3) == [3]
    assert chosen_slices([0, 1, 0], 3) == [1]


def test_the_box_holds_content_and_margin_within_the_page():
    content = np.zeros((200, 100), bool)
    content[90:110, 5:8] = True
    rows, columns = content_box(content, (0.5, 2.0))
    assert (rows.start, rows.stop) == (60, 140)  # 20 voxels of margin are 10 mm; then widened to 40 % of the page
    assert (columns.start, columns.stop) == (0, 40)
    assert content_box(np.zeros((4, 5), bool), (1, 1)) == (slice(0, 4), slice(0, 5))


def titles(figure):
    return [ax.get_title() for ax in figure.axes if ax.get_title()]


def test_the_case_picture_shows_the_way_from_image_to_soft_label(case):
    found = titles(case_picture(some(case, "geols", "sing")))
    assert found[0] == "image, T1"
    assert any(title.startswith("seeds") for title in found)
    assert {
        "labels",
        "GeoLS paper, α = 0.1: organ",
        "SiNG paper, δ = 0.5: whole",
        "SiNG paper, δ = 0.5: entropy",
    } < set(found)


def legends(figure):
    """Return class name and colour of every entry in the class bars of a figure."""
    bars = [ax.child_axes[0] for ax in figure.axes if ax.get_title() == "labels" or ax.get_title().startswith("seeds")]
    for bar in bars:
        names, colours = [text.get_text() for text in bar.get_yticklabels()], bar.collections[-1].cmap.colors
        yield from zip(names, colours, strict=True)


def test_a_class_has_one_colour_on_the_whole_page_whatever_its_place(case):
    geols = case.targets["geols"]
    figure = case_picture(CaseEntries(case.case, {"geols": geols, "turned": described(geols, classes=CLASSES[::-1])}))
    colours = {}
    for name, colour in legends(figure):
        colours.setdefault(name, set()).add(colour)
    assert {name: len(found) for name, found in colours.items()} == {"background": 1, "organ": 1, "tumour": 1}
    assert len(set.union(*colours.values())) == 3
    # Two targets of one method and variant are told apart by their names.
    assert {"geols: organ", "turned: organ"} < set(titles(figure))


def test_a_class_that_only_some_targets_have_is_shown_of_those(case):
    figure = case_picture(case, class_name="core")
    assert "SiNG paper, δ = 0.5: core" in titles(figure) and not any("GeoLS" in title for title in titles(figure))


def test_the_unit_of_a_level_set_is_that_of_its_variant(case):
    for variant, unit in (("mm", "(mm)"), ("normalised", "(share of the largest)")):
        level = described(case.targets["svls"], kind="distance", variant=variant)
        figure = case_picture(CaseEntries(case.case, {"level": level}))
        labels = [bar.get_ylabel() for ax in figure.axes for bar in ax.child_axes]
        assert f"signed distance {unit}" in labels


def test_every_panel_has_a_labelled_colour_bar_and_its_shape_in_mm(case):
    figure = case_picture(case, plane="sagittal")
    panels = [ax for ax in figure.axes if ax.get_title()]
    assert len(panels) == 1 + len(case.case.channels) + 2 + 2 * len(case.targets)
    for ax in panels:
        assert ax.get_aspect() == 3.0  # rows are z at 3 mm, columns y at 1 mm
        (bar,) = ax.child_axes
        assert bar.get_ylabel()


def test_a_panel_shows_the_slice_that_is_stored(case):
    image, labels, *_ = volumes(CASE, SHAPES[CASE])
    index = int((labels > 0).sum(axis=(1, 2)).argmax())
    figure = case_picture(some(case, "onehot"), plane="axial", class_name="organ")
    shown = {ax.get_title(): ax.images[0].get_array() for ax in figure.axes if ax.get_title()}
    whole = image[0, index, ::-1, ::-1]
    part = shown["image, T1"]
    assert any(
        np.array_equal(part, whole[y : y + part.shape[0], x : x + part.shape[1]])
        for y in range(whole.shape[0] - part.shape[0] + 1)
        for x in range(whole.shape[1] - part.shape[1] + 1)
    )
    assert set(np.unique(shown["one-hot: organ"])) == {0, 1}
    assert shown["one-hot: entropy"].max() == 0


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


def test_only_what_is_shown_is_read(case, monkeypatch):
    entry_class = type(case.case.entry)
    read, asked = entry_class.read, []

    def recorded(entry, name, window=None):
        values = read(entry, name, window)
        asked.append((name, values[..., :, :, :].size / values.shape[0] if values.ndim == 4 else values.size))
        return values

    monkeypatch.setattr(entry_class, "read", recorded)
    case_picture(some(case, "geols"))
    voxels_per_slice = SHAPES[CASE][1] * SHAPES[CASE][2]
    assert [name for name, n in asked if n > voxels_per_slice] == ["labels"]


def test_equal_figures_give_equal_files(case, tmp_path):
    for name in ("a", "b"):
        save_png(montage(node(case, "prepare", case.case.entry), n_slices=1), tmp_path / "new" / name, dpi=50)
    assert (tmp_path / "new" / "a").read_bytes() == (tmp_path / "new" / "b").read_bytes()
    picture = imread(tmp_path / "new" / "a", format="png")
    assert picture.std() > 0.1
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["a", "b"]


@pytest.mark.parametrize(
    ("shape", "plane"),
    [
        ((1, 1, 8), None),
        ((1, 8, 1), None),
        ((1, 1, 1), None),
        ((9, 1, 8), "axial"),
        ((9, 8, 1), "coronal"),
        ((3, 20, 90), "axial"),
    ],
)
def test_slices_one_voxel_wide_and_thin_ones_are_drawn(tmp_path, shape, plane):
    prepared, targets = open_made(make_cohort(tmp_path, {"flat": shape}), "flat")
    store = Store(tmp_path / "store")
    for layer in seeds_and_distance("flat", shape):
        publish(store, key_of(layer.name), [layer], prepared.grid)
    upstream = {name: store.find(key_of(name)) for name in ("seeds", "distance")}
    entries = {"geols": TargetEntries(targets["geols"], **upstream), "sing": TargetEntries(targets["sing"])}
    # Warnings are errors here: matplotlib's that a layout failed among them.
    save_png(case_picture(CaseEntries(prepared, entries), plane=plane), tmp_path / "flat.png", dpi=30)
    assert (tmp_path / "flat.png").stat().st_size > 1000


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


def test_wrong_requests_are_refused(case):
    with pytest.raises(
        InputError, match="class: got 'liver', expected one that a target has .geols: background, organ"
    ):
        case_picture(some(case, "geols"), class_name="liver")
    with pytest.raises(InputError, match="stage: got 'labels'"):
        montage(node(case, "labels", case.case.entry))
    with pytest.raises(InputError, match="panel style: got 'rainbow'"):
        Panel("t", "rainbow", np.zeros((2, 2)), "bar")
    with pytest.raises(InputError, match="panel 't': got no image, expected one beneath seeds"):
        Panel("t", "seeds", np.zeros((1, 2, 2), bool), "bar")


def test_a_picture_that_fails_does_not_stop_the_others(tmp_path, monkeypatch, caplog):
    project = Project(tmp_path, monkeypatch, n_cases=4, targets={"svls": {"method": "svls"}})
    receipts = project.run_all()
    project.store.discard(receipts["case1", "target"].key)
    drawn = case_page.case_picture

    def fails_for_case2(entries, **options):
        if entries.case.id == "case2":
            raise ZeroDivisionError("a bug")
        return drawn(entries, **options)

    monkeypatch.setattr(case_page, "case_picture", fails_for_case2)
    ids = [case.id for case in project.cases]
    failed = case_page.write_pictures(project.config, project.plan, ids, project.results)
    assert set(failed) == {"case1", "case2"}
    assert "entry" in failed["case1"] and failed["case2"] == "ZeroDivisionError: a bug"
    assert "Traceback" in caplog.text and "case2" in caplog.text and "case1" not in caplog.text
    assert {path.parent.name for path in project.results.glob("*/montage.png")} == {"case0", "case3"}


def test_pictures_leave_pyplot_alone():
    script = (
        "import sys, softlabels.view.case_page, softlabels.view.montage; "
        "print('matplotlib.pyplot' in sys.modules, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_entries_and_exports_need_no_drawing_library():
    script = "import sys, softlabels.view.entries, softlabels.view.export; print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]


def tilted_grid(shape):
    """Return an anisotropic grid, turned about two axes and away from the origin."""
    one, two = 0.3, -0.2
    turn = np.array([[np.cos(one), -np.sin(one), 0], [np.sin(one), np.cos(one), 0], [0, 0, 1]])
    tilt = np.array([[1, 0, 0], [0, np.cos(two), -np.sin(two)], [0, np.sin(two), np.cos(two)]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ tilt @ np.array([[0, 0, -0.7], [0, 1.2, 0], [5.0, 0, 0]])
    affine[:3, 3] = 12, -34, 56
    return Grid(shape, (5.0, 1.2, 0.7), affine)


@pytest.mark.parametrize("name", ["x.nii.gz", "x.nii"])
@pytest.mark.parametrize("dtype", [np.float32, np.uint8, np.uint16, np.int32, bool])
def test_a_nifti_file_holds_the_values_at_their_place(tmp_path, name, dtype):
    grid = tilted_grid((3, 4, 5))
    values = np.random.default_rng(0).integers(0, 2, (2, *grid.shape)).astype(dtype)
    for volume in (values, values[0]):
        read = nibabel.load(write_nifti(volume, grid, tmp_path / "deep" / name))
        np.testing.assert_array_equal(np.asarray(read.dataobj).T, volume)
        np.testing.assert_allclose(read.affine, grid.to_nifti_affine(), atol=1e-5)
        np.testing.assert_allclose(read.get_qform(), grid.to_nifti_affine(), atol=1e-5)
        assert read.get_data_dtype() == (np.uint8 if dtype is bool else dtype)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == [name]


def test_export_gives_the_stored_map_and_the_blend(case, tmp_path):
    target = case.targets["geols"].target
    stored = nibabel.load(export_layer(target.entry, "target", tmp_path / "stored.nii.gz")).get_fdata().T
    np.testing.assert_array_equal(stored, target.entry.read("target"))
    hard = np.stack([np.isin(case.case.entry.read("labels"), c.values) for c in CLASSES])
    for alpha, share in ((None, 0.1), (0.25, 0.25), (1.0, 1.0)):
        path = export_target(target, tmp_path / "blend.nii.gz", alpha=alpha)
        np.testing.assert_allclose(nibabel.load(path).get_fdata().T, (1 - share) * hard + share * stored, atol=1e-6)
    with pytest.raises(InputError, match="got delta, expected only alpha"):
        export_target(target, tmp_path / "blend.nii.gz", delta=0.5)


def test_export_of_a_derived_target_needs_no_entry(case, tmp_path):
    path = export_target(case.targets["onehot"].target, tmp_path / "onehot.nii")
    assert nibabel.load(path).shape == (*SHAPES[CASE][::-1], 3)


def test_what_cannot_be_exported_is_refused(tmp_path):
    grid, values = Grid((2, 3, 4), (1.0, 1.0, 1.0)), np.zeros((2, 3, 4), np.uint8)
    with pytest.raises(InputError, match=r"'x.mha', expected a name that ends in .nii.gz or .nii"):
        write_nifti(values, grid, tmp_path / "x.mha")
    sheared = np.eye(4)
    sheared[:2, 1] = 0.6, 0.8
    with pytest.raises(InputError, match="sheared"):
        write_nifti(values, Grid((2, 3, 4), (1.0, 1.0, 1.0), sheared), tmp_path / "x.nii")
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        write_nifti(values, grid, tmp_path / "file" / "x.nii")
