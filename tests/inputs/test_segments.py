"""Segmentations of 3D Slicer: overlapping segments become regions, with Slicer's names and colours."""

import numpy as np
import pytest
import yaml
from helpers.small_volume import SHAPE
from helpers.small_volume import values as _values

from softlabels.config import parse_config
from softlabels.config.template import config_template
from softlabels.errors import InputError
from softlabels.inputs.header import Segment
from softlabels.inputs.importers import found_labels, segment_colours
from softlabels.inputs.segments import overlapping_labels, segment_labels
from softlabels.inputs.sheet import Case
from softlabels.inputs.volume import read_header, read_volume
from softlabels.pipeline.plan import make_plan
from softlabels.view.colours import class_colours


def _slicer(path, layers, segments):
    """Write a `.seg.nrrd` as Slicer does; layers (L, D, H, W)."""
    n_layers, depth, height, width = layers.shape
    pairs = "".join(
        f"Segment{i}_Name:={name}\nSegment{i}_LabelValue:={value}\nSegment{i}_Layer:={layer}\n"
        f"Segment{i}_Color:=0.5 0 1\nSegment{i}_ID:=Segment_{i}\n"
        for i, (name, value, layer) in enumerate(segments)
    )
    path.write_bytes(
        (
            f"NRRD0004\ntype: unsigned char\ndimension: 4\nspace: left-posterior-superior\n"
            f"sizes: {n_layers} {width} {height} {depth}\nspace directions: none (1,0,0) (0,1,0) (0,0,1)\n"
            f"kinds: list domain domain domain\nencoding: raw\nspace origin: (0,0,0)\n{pairs}\n"
        ).encode()
        + np.moveaxis(layers, 0, -1).tobytes()
    )
    return path


def test_overlapping_segments_become_regions(tmp_path):
    rng = np.random.default_rng(5)
    layers = np.stack([rng.integers(0, 3, SHAPE), rng.integers(0, 2, SHAPE)]).astype(np.uint8)
    path = _slicer(tmp_path / "a.seg.nrrd", layers, [("Leber", 1, 0), ("Gefäße", 2, 0), ("tumour", 1, 1)])
    volume = read_volume(path, role="label")
    labels = segment_labels(read_header(path).segments)
    for (name, values), mask in zip(labels.items(), (layers[0] == 1, layers[0] == 2, layers[1] == 1), strict=True):
        np.testing.assert_array_equal(np.isin(volume.values, values), mask, err_msg=name)
    assert list(labels) == ["Leber", "Gefäße", "tumour"]
    assert {segment.colour for segment in read_header(path).segments} == {"#8000ff"}


def test_a_project_of_segmentations_has_the_names_and_colours_of_slicer(tmp_path):
    layers = np.random.default_rng(5).integers(0, 2, (2, *SHAPE)).astype(np.uint8)
    _slicer(tmp_path / "a.seg.nrrd", layers, [("left kidney", 1, 0), ("cyst", 1, 1)])
    np.save(tmp_path / "a.npy", _values())
    case = Case("a", (str(tmp_path / "a.npy"),), str(tmp_path / "a.seg.nrrd"))
    labels = found_labels([case])
    assert labels == {"background": 0, "left_kidney": [1, 3], "cyst": [2, 3]}
    colours = segment_colours([case], labels)
    assert colours == {"left_kidney": "#8000ff", "cyst": "#8000ff"}
    config = parse_config(yaml.safe_load(config_template(["CT"], labels, colours=colours)))
    classes = config.label_set(config.targets["sing"]).classes
    assert class_colours(classes) == {(1, 3): "#8000ff", (2, 3): "#8000ff"}
    # A colour changes neither what a class is, nor any key.
    plain = parse_config(yaml.safe_load(config_template(["CT"], labels)))
    assert classes == plain.label_set(plain.targets["sing"]).classes
    assert list(make_plan(config).nodes) == list(make_plan(plain).nodes)


@pytest.mark.parametrize(
    ("segments", "said"),
    [
        ([(f"s{i}", i + 1, 0) for i in range(9)], "at most 8"),
        ([("a", 1, 0), ("b", 1, 0)], "layers; save it again"),
        ([("a", 1, 0), ("b", 1, 2)], "layers; save it again"),
        ([("a", 1, 0), ("b", 1, 1)], "values \\[2\\] of no segment"),
    ],
)
def test_segments_that_do_not_fit_their_layers_are_refused(segments, said):
    layers = np.zeros((2, 1, 1, 3), np.uint8)
    layers[0, 0, 0] = [0, 1, 2]
    with pytest.raises(InputError, match=f"a: .*{said}"):
        overlapping_labels(layers, [Segment(*one) for one in segments], "a")
