"""Laws of what is written beside NIfTI files: channels by name, labels by value, as ITK-SNAP and Slicer read them."""

import re
from types import SimpleNamespace

import numpy as np
import SimpleITK as sitk
from helpers.made_cohort import CLASSES, REGIONS

from softlabels.view.colours import class_colours
from softlabels.view.export import export_target
from softlabels.view.sidecars import itksnap_labels, label_names, layer_sidecar, slicer_colours, target_sidecar

#: A line of a label description file, as ITK-SNAP documents it at the head of the file.
ITKSNAP_LINE = re.compile(r'\s*(\d+)\s+(\d+)\s+(\d+)\s+(\d+)\s+([\d.]+)\s+([01])\s+([01])\s+"([^"]*)"')


def test_every_label_value_has_a_name_and_the_colour_of_its_class():
    names = label_names(CLASSES)
    colours = class_colours(CLASSES)
    assert {value: name for value, (name, _) in names.items()} == {1: "organ", 2: "tumour", 4: "tumour"}
    assert names[1][1] == colours[(1,)] and names[4][1] == colours[(2, 4)]
    assert [name for name, _ in label_names(REGIONS).values()] == ["whole", "core+whole", "core+whole"]


def test_itksnap_reads_every_line():
    lines = [line for line in itksnap_labels(label_names(CLASSES)).splitlines() if not line.startswith("#")]
    found = [ITKSNAP_LINE.fullmatch(line).groups() for line in lines]
    assert [(int(one[0]), one[-1]) for one in found] == [(0, "Clear Label"), (1, "organ"), (2, "tumour"), (4, "tumour")]
    assert all(0 <= int(part) <= 255 for one in found for part in one[1:4])
    assert found[1][1:4] == ("230", "159", "0")


def test_slicer_reads_every_line():
    lines = [line.split() for line in slicer_colours(label_names(CLASSES)).splitlines() if not line.startswith("#")]
    assert lines[:2] == [["0", "background", "0", "0", "0", "0"], ["1", "organ", "230", "159", "0", "255"]]
    assert all(len(line) == 6 for line in lines)


def test_a_distance_that_ends_at_a_gap_says_where_it_is_infinite():
    whole, near = (
        SimpleNamespace(attributes={"params": params}, channels=lambda layer: ["T1:a"], key="k")
        for params in ({"metric": "sum"}, {"metric": "sum", "gap": 13.44})
    )
    whole, near = layer_sidecar("a", whole, "distance"), layer_sidecar("a", near, "distance")
    assert whole["values"].endswith("infinite where no seed can be reached")
    assert (
        near["values"] == whole["values"] + ", and where the class is farther than the nearest one by more than 13.44"
    )


def test_a_sidecar_names_the_channels_of_the_file(case, tmp_path):
    target = case.targets["geols"].target
    whole = target_sidecar(target, target.description.class_names)
    assert whole["channels"] == ["background", "organ", "tumour"] and whole["label_values"]["tumour"] == [2, 4]
    assert whole["blend"] == {"rule": "mix_onehot", "alpha": 0.1} and whole["entry"] == target.entry.key
    layer = layer_sidecar(case.case.id, case.case.entry, "image")
    assert layer["channels"] == list(case.case.channels) and layer["values"].startswith("intensity")
    path = export_target(target, tmp_path / "x.nii.gz", class_name="organ")
    image = sitk.ReadImage(str(path))
    assert image.GetDimension() == 3
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), target.soft_label()[1])
