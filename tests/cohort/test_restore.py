"""Laws of the way back of a case: from the index alone, for every kind of target, to a NIfTI at the scanner's place."""

from dataclasses import replace

import numpy as np
import pytest
from helpers.made_cohort import SHAPES, TARGETS, make_cohort, volumes, write_index

from softlabels.cli.restore import _read_prediction
from softlabels.cohort.index import Index
from softlabels.cohort.restore import CaseSpace
from softlabels.errors import FormatError, InputError
from softlabels.grid import Grid

nibabel = pytest.importorskip("nibabel")
#: The files of every case of the made cohort: one voxel more on each side than what was prepared.
SPACING = (3.0, 1.0, 1.0)


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    path = make_cohort(tmp_path_factory.mktemp("cohort"), spacing=SPACING)
    cases = [replace(case, grid=files_of(case.id)) for case in Index.read(path).cases]
    return write_index(path.parent.parent, cases)


def files_of(case_id):
    shape = SHAPES[case_id]
    return Grid(shape, SPACING).cropped((-1, -1, -1), tuple(n + 2 for n in shape))


def test_labels_come_back_from_each_kind_of_prediction(index, tmp_path):
    for case_id, shape in SHAPES.items():
        _, labels, *_ = volumes(case_id, shape)
        labels[labels > 4] = 0
        expected = np.pad(labels, 1)
        for target in TARGETS:
            space = CaseSpace.of(index, case_id, target=target)
            masks = np.stack([np.isin(labels, c.values) for c in space.described.classes]).astype(np.float32)
            prediction = 2 * masks - 1 if space.described.kind == "signed" else 0.8 * masks + 0.1
            found = space.labels(prediction)
            same_class = [
                np.array_equal(np.isin(found, c.values), np.isin(expected, c.values)) for c in space.described.classes
            ]
            assert found.shape == files_of(case_id).shape and all(same_class)
        image = nibabel.load(space.write_labels(labels, tmp_path / f"{case_id}.nii.gz"))
        np.testing.assert_array_equal(np.asarray(image.dataobj).T, expected)
        np.testing.assert_allclose(image.affine @ [0, 0, 0, 1], [-1, -1, -3, 1])


def test_probabilities_are_background_outside_of_the_box(index, tmp_path):
    space = CaseSpace.of(index, "small", target="geols")
    _, _, probabilities, _ = volumes("small", SHAPES["small"])
    image = nibabel.load(space.write_probabilities(probabilities, tmp_path / "p.nii.gz"))
    found = np.asarray(image.dataobj).T
    np.testing.assert_array_equal(found[:, 1:-1, 1:-1, 1:-1], probabilities)
    np.testing.assert_array_equal(found[:, 0], np.broadcast_to(np.float32([1, 0, 0])[:, None, None], found[:, 0].shape))


def test_what_does_not_belong_to_the_case_is_refused(index):
    with pytest.raises(InputError, match="target: got none, expected one of geols, onehot, sing, smooth, svls"):
        CaseSpace.of(index, "small")
    with pytest.raises(InputError, match="case 'other': not in the index"):
        CaseSpace.of(index, "other", target="geols")
    space = CaseSpace.of(index, "small", target="geols")
    wrong = {
        r"got a prediction of shape \(2, 7, 9, 5\), expected \(3, 7, 9, 5\): the classes background, organ": np.ones(
            (2, 7, 9, 5)
        ),
        "got a prediction with nan or inf": np.full((3, 7, 9, 5), np.nan),
        "got float64 of shape .*, expected integers, or a channel": np.ones((7, 9, 5)),
        r"got int64 of shape \(7, 9, 6\), expected integers": np.ones((7, 9, 6), int),
        "got the label -1": np.full((7, 9, 5), -1),
    }
    for says, prediction in wrong.items():
        with pytest.raises(InputError, match=f"case small: {says}"):
            space.labels(prediction)


def test_an_older_index_needs_an_image_of_the_case(index, tmp_path):
    bare = write_index(tmp_path, [replace(case, grid=None) for case in Index.read(index).cases])
    store = index.parent.parent / "store"
    with pytest.raises(FormatError, match="case small: the index does not say .* Run snakemake again, or give"):
        CaseSpace.of(bare, "small", target="geols", store=store)
    space = CaseSpace.of(bare, "small", target="geols", store=store, files=files_of("small"))
    assert space.files == CaseSpace.of(index, "small", target="geols").files


@pytest.mark.parametrize("name", ["a.npy", "a.npz"])
def test_a_damaged_prediction_is_an_input_error_and_a_good_one_is_read(tmp_path, name):
    path, grid = tmp_path / name, Grid((1, 1, 1), (1.0, 1.0, 1.0))
    header = b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', __import__('os'" + b" " * 90
    for content in (b"", header, header.replace(b"os'", b"os"), b"PK\3\4"):
        path.write_bytes(content)
        with pytest.raises(InputError, match=rf"{name}: cannot be read as an array"):
            _read_prediction(path, grid)
    (np.save if name == "a.npy" else np.savez)(path, np.arange(3.0))
    np.testing.assert_array_equal(_read_prediction(path, grid), np.arange(3.0))


def test_a_byte_of_a_compressed_prediction_that_changed_is_an_input_error_or_harmless(tmp_path):
    path, grid, values = tmp_path / "a.npz", Grid((1, 1, 1), (1.0, 1.0, 1.0)), np.sin(np.arange(300.0))
    np.savez_compressed(path, probabilities=values)
    content, n_named = path.read_bytes(), 0
    for place in range(len(content)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0x5A]) + content[place + 1 :])
        try:
            np.testing.assert_array_equal(_read_prediction(path, grid), values)
        except InputError as error:
            assert str(path) in str(error)
            n_named += 1
    assert n_named > len(content) / 2
