"""Laws of the page of a case: right slice, right labels, and every picture of a batch that can be drawn."""

import itertools
import subprocess
import sys

import numpy as np
import pytest
from helpers.made_cohort import CLASSES, SHAPES, volumes
from helpers.made_entries import described, make_entries, some, titles
from helpers.made_project import Project

from softlabels.errors import InputError
from softlabels.view import case_page
from softlabels.view.case_page import arranged, case_picture
from softlabels.view.entries import CaseEntries
from softlabels.view.panels import Panel, save_png

CASE = "large"


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


def panel(name):
    """Return a panel that only its title tells apart."""
    return Panel(name, "entropy", np.zeros((2, 2)), "")


def row(name, has_maps):
    """Return a row of a target, of which the two first panels may be missing."""
    maps = [panel(f"{name} seeds"), panel(f"{name} distance")] if has_maps else [None, None]
    return [*maps, *(panel(f"{name} {part}") for part in ("soft", "difference", "entropy"))]


def arrangement(n_lead, *has_maps):
    """Return the titles of an arrangement, and "-" where there is a gap."""
    rows = [row("abcdef"[i], has) for i, has in enumerate(has_maps)]
    return [
        " ".join(one.title.replace(" ", ".") if one else "-" for one in line)
        for line in arranged([panel(f"lead{i}") for i in range(n_lead)], rows)
    ]


def test_targets_without_maps_share_lines_after_those_that_have_some():
    short = "{0}.soft {0}.difference {0}.entropy"
    whole = "{0}.seeds {0}.distance " + short
    two = [f"lead0 {whole.format('a')}", f"lead1 {whole.format('b')}"]
    assert arrangement(2, True, True) == two
    assert arrangement(2, True, True, False) == [*two, f"{short.format('c')} - - -"]
    assert arrangement(2, True, True, False, False) == [*two, f"{short.format('c')} {short.format('d')}"]
    # Where none has maps, or images take much of a line, each has a line of its own.
    assert arrangement(2, False, False) == [f"lead0 {short.format('a')}", f"lead1 {short.format('b')}"]
    assert arrangement(4, True, False) == [
        f"lead0 lead1 {whole.format('a')}",
        f"lead2 lead3 - - {short.format('b')}",
    ]


def test_every_panel_has_one_place_and_lines_are_of_equal_length():
    for n_lead in (2, 3, 5):
        for has_maps in itertools.chain.from_iterable(itertools.product((True, False), repeat=n) for n in (1, 2, 5)):
            lines = [line.split() for line in arrangement(n_lead, *has_maps)]
            assert len({len(line) for line in lines}) == 1
            shown = [title for line in lines for title in line if title != "-"]
            expected = n_lead + sum(5 if has else 3 for has in has_maps)
            assert len(shown) == len(set(shown)) == expected
            assert not any(set(column) == {"-"} for column in zip(*lines, strict=True))


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
    # Soft label, difference and entropy of each target; a one-hot label does not differ from the hard one.
    assert len(panels) == 1 + len(case.case.channels) + 2 + 3 * len(case.targets) - 1
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


def test_only_what_is_shown_is_read(case, monkeypatch):
    entry_class = type(case.case.entry)
    read, asked = entry_class.read, []

    def recorded(entry, name, window=None, *rest, **options):
        values = read(entry, name, window, *rest, **options)
        asked.append((name, values[..., :, :, :].size / values.shape[0] if values.ndim == 4 else values.size))
        return values

    monkeypatch.setattr(entry_class, "read", recorded)
    case_picture(some(case, "geols"))
    voxels_per_slice = SHAPES[CASE][1] * SHAPES[CASE][2]
    assert [name for name, n in asked if n > voxels_per_slice] == ["labels"]


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
    flat = some(make_entries(tmp_path, "flat", shape), "geols", "sing")
    # Warnings are errors here: matplotlib's that a layout failed among them.
    save_png(case_picture(flat, plane=plane), tmp_path / "flat.png", dpi=30)
    assert (tmp_path / "flat.png").stat().st_size > 1000


def test_an_unknown_class_is_refused(case):
    with pytest.raises(
        InputError, match="class: got 'liver', expected one that a target has .geols: background, organ"
    ):
        case_picture(some(case, "geols"), class_name="liver")


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
