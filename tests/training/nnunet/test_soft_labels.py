"""Soft labels for nnU-Net's heads, and nnU-Net's data set with them; nnU-Net itself is not needed."""

import pickle

import numpy as np
import pytest
from helpers.made_cohort import CLASSES, REGIONS, SHAPES, SPARSE, TARGETS, make_cohort, volumes

from softlabels.blend import Blend
from softlabels.classes import class_masks
from softlabels.errors import InputError
from softlabels.store import read
from softlabels.training.dataset import SoftLabelDataset
from softlabels.training.nnunet.dataset import WithSoftLabels
from softlabels.training.nnunet.soft_labels import SoftLabels

HEADS = [(0,), (1,), (2, 4)]
REGION_HEADS = [(1, 2, 4), (2, 4)]


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    return make_cohort(tmp_path_factory.mktemp("cohort"))


@pytest.fixture(scope="module")
def index_with_sparse(tmp_path_factory):
    return make_cohort(tmp_path_factory.mktemp("cohort"), targets=TARGETS | SPARSE)


def soft_labels(index, target, **options):
    is_region = target == "sing"
    heads = REGION_HEADS if is_region else HEADS
    return SoftLabels(index, target, **{"heads": heads, "has_softmax": not is_region} | options)


class FakeDataset:
    """Cases as nnU-Net's data set gives them, held in memory."""

    def __init__(self, identifiers):
        self.identifiers = list(identifiers)

    def load_case(self, identifier):
        image, labels, *_ = volumes(identifier, SHAPES[identifier])
        seg = labels[None].astype(np.int8)
        seg[0, :, :1][seg[0, :, :1] == 0] = -1  # outside of the nonzero region
        return image, seg, None, {"class_locations": {}}


@pytest.mark.parametrize("target", ["onehot", "smooth", "geols", "svls", "sing", *SPARSE])
def test_a_box_is_the_slice_of_the_whole_soft_label(index_with_sparse, target):
    data = WithSoftLabels(FakeDataset(SHAPES), soft_labels(index_with_sparse, target))
    whole = {case["case_id"]: case for case in SoftLabelDataset(index_with_sparse, target=target, mode="whole")}
    pad = np.array((TARGETS | SPARSE)[target].pad_value, np.float32)[:, None, None, None]
    for identifier, shape in SHAPES.items():
        volume, seg, previous, properties = data.load_case(identifier)
        assert volume.shape == (2 + len(pad), *shape)
        assert previous is None
        assert "class_locations" in properties
        box = tuple(slice(n // 4, n - n // 5) for n in shape)
        read = volume[(slice(None), *box)]
        expected = whole[identifier]
        np.testing.assert_array_equal(read[:2], expected["image"].numpy()[(slice(None), *box)])
        np.testing.assert_array_equal(read[2:], expected["soft_label"].numpy()[(slice(None), *box)] - pad)
        assert read.dtype == np.float32
        assert seg.shape == (1, *shape)


def test_heads_take_the_channels_of_their_labels_in_their_order(index):
    order = [(2, 4), (0,), (1,)]
    labels = volumes("large", SHAPES["large"])[1]
    window = tuple((0, n) for n in labels.shape)
    straight = soft_labels(index, "geols").read("large", window, labels)
    turned = soft_labels(index, "geols", heads=order)
    np.testing.assert_array_equal(turned.read("large", window, labels), straight[[2, 0, 1]])
    assert turned.pad_value.tolist() == [0.0, 1.0, 0.0]


def test_region_heads_leave_the_background_out(index):
    regions = soft_labels(index, "geols", heads=[(1,), (2, 4)], has_softmax=False)
    labels = volumes("small", SHAPES["small"])[1]
    window = tuple((0, n) for n in labels.shape)
    full = soft_labels(index, "geols").read("small", window, labels)
    np.testing.assert_array_equal(regions.read("small", window, labels), full[1:])


def test_parameters_of_the_blend_can_be_replaced(index):
    labels = volumes("large", SHAPES["large"])[1]
    window = tuple((0, n) for n in labels.shape)
    hard = soft_labels(index, "geols", overrides={"alpha": 0.0}).read("large", window, labels)
    np.testing.assert_array_equal(hard, class_masks(labels, CLASSES).astype(np.float32))
    with pytest.raises(InputError, match="got delta, expected only alpha"):
        soft_labels(index, "geols", overrides={"delta": 0.5})


def test_marks_of_nnunet_are_background(index):
    labels = volumes("large", SHAPES["large"])[1].astype(np.int16)
    window = tuple((0, n) for n in labels.shape)
    marked = np.where(labels == 0, -1, labels)
    soft = soft_labels(index, "sing")
    np.testing.assert_array_equal(soft.read("large", window, marked), soft.read("large", window, labels))
    stored = volumes("large", SHAPES["large"])[3]
    expected = Blend("signed_margin", 0.5).soft_label(class_masks(labels, REGIONS), stored)
    np.testing.assert_allclose(soft.read("large", window, labels), expected, atol=1 / 255)


def test_what_was_pickled_reads_the_same(index):
    soft = soft_labels(index, "geols")
    labels = volumes("small", SHAPES["small"])[1]
    window = tuple((0, n) for n in labels.shape)
    first = soft.read("small", window, labels)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(soft)).read("small", window, labels), first)


def test_the_cases_that_were_used_last_are_kept_open_and_no_others(index, monkeypatch):
    whole = SoftLabelDataset(index, target="geols", mode="whole")
    expected = {case["case_id"]: case["soft_label"].numpy() for case in whole}
    opened, original = [], read.open_entry
    monkeypatch.setattr("softlabels.cohort.case.open_entry", lambda *a: opened.append(a[1]) or original(*a))
    monkeypatch.setattr("softlabels.training.nnunet.soft_labels.MAX_OPEN", 2)
    soft = soft_labels(index, "geols")
    asked = ["thin", "small", "thin", "large", "thin", "small", "large", "large"]
    anew = []
    for identifier in asked:
        before, labels = len(opened), volumes(identifier, SHAPES[identifier])[1]
        found = soft.read(identifier, [(0, n) for n in labels.shape], labels)
        np.testing.assert_array_equal(found, expected[identifier])
        anew.append(len(opened) > before)
    # "large" takes the place of "small", "small" that of "large", and "large" that of "thin".
    assert anew == [True, True, False, True, False, True, True, False]
    assert list(soft._open) == ["small", "large"]


@pytest.mark.parametrize(
    ("target", "options", "message"),
    [
        ("nope", {}, "target: got 'nope', expected one of 'geols', 'onehot', 'sing', 'smooth', 'svls'"),
        ("sing", {"has_softmax": True}, "needs one sigmoid per structure, but this network ends in a softmax"),
        (
            "geols",
            {"heads": [(0,), (1,), (2,), (4,)]},
            r"classes are .*tumour \[2, 4\], but .*\[0\], \[1\], \[2\], \[4\]",
        ),
        ("geols", {"heads": [(0,), (1,)]}, "Give the target the labels of dataset.json"),
        ("geols", {"heads": [(1,)], "has_softmax": False}, "Give the target the labels of dataset.json"),
        ("sing", {"heads": [(1, 2, 4), (2,)]}, "Give the target the labels of dataset.json"),
    ],
)
def test_what_a_network_cannot_be_trained_on_is_refused(index, target, options, message):
    with pytest.raises(InputError, match=message):
        soft_labels(index, target, **options)


def test_cases_that_the_index_lacks_are_named(index):
    data = WithSoftLabels(FakeDataset(SHAPES), soft_labels(index, "geols"))
    data.identifiers = [*SHAPES, "new1", "new0"]
    with pytest.raises(InputError, match="no soft label of 2 training cases: new0, new1"):
        data.check(with_labels=False)


def test_right_cases_pass_the_check(index):
    for target in ("geols", "onehot"):
        WithSoftLabels(FakeDataset(SHAPES), soft_labels(index, target)).check(with_labels=True)


def test_another_shape_or_segmentation_is_refused(index, monkeypatch):
    data = WithSoftLabels(FakeDataset(["small"]), soft_labels(index, "geols"))
    image, seg, *rest = data.dataset.load_case("small")
    other = seg.copy()
    other[0, 3, 4, 2] = 1 - other[0, 3, 4, 2] % 2
    monkeypatch.setattr(data.dataset, "load_case", lambda _: (image, other, *rest))
    data.check(with_labels=False)
    with pytest.raises(InputError, match=r"case small: 1 of 315 voxels .* preprocessed again"):
        data.check(with_labels=True)
    monkeypatch.setattr(data.dataset, "load_case", lambda _: (image[:, :-1], seg[:, :-1], *rest))
    with pytest.raises(InputError, match=r"case small: nnU-Net's array is \(6, 9, 5\), its soft label \(7, 9, 5\)"):
        data.check(with_labels=False)
