"""An entry opens without this package: zarr-python, xarray, dask and an OME-NGFF validator see the same values."""

import json

import dask.array as da
import numpy as np
import pytest
import xarray as xr
import zarr
from helpers.grids import sitk_grid
from ome_zarr_models.common.omero import Omero
from ome_zarr_models.v05.image import Image
from ome_zarr_models.v05.image_label import ImageLabel
from ome_zarr_models.v05.labels import Labels

from softlabels.grid import Grid
from softlabels.store import BitRound, Layer, ScaleOffset, Store, entry_key

SHAPE = (20, 70, 67)
OBLIQUE = sitk_grid(SHAPE[::-1], (0.8, 1.0, 3.0), (5, 6, 7), (0.8, -0.6, 0, 0.6, 0.8, 0, 0, 0, 1))
ALIGNED = Grid(SHAPE, (3.0, 1.0, 0.8), [[0, 0, 0.8, -7.5], [0, 1.0, 0, 20.0], [3.0, 0, 0, 4.0], [0, 0, 0, 1]])
RNG = np.random.default_rng(0)
TARGET = RNG.random((3, *SHAPE)).astype(np.float32)
DISTANCE = np.where(TARGET < 0.1, np.inf, TARGET * 50).astype(np.float32)
LABELS = RNG.integers(0, 5, SHAPE).astype(np.uint8)


def published(store, grid, *layers):
    key = entry_key(
        stage="test", algorithm="1", params={"grid": grid.to_json(), "n": [x.name for x in layers]}, inputs={}
    )
    return store.publish(key, layers, grid=grid, attributes={}, quality={}, provenance={})[0]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def entry(store):
    target = Layer("target", TARGET, ["background", "grey", "white"], ScaleOffset("uint8", 0, 1))
    return published(store, ALIGNED, target, Layer("labels", LABELS, role="labels"))


@pytest.mark.parametrize("name", ["target", "labels"])
def test_zarr_python_reads_what_our_reader_reads(entry, name):
    array = entry.stored(name)
    assert isinstance(array, zarr.Array)
    assert array.shape == entry.shape(name)
    assert array.metadata.dimension_names == ("c", "z", "y", "x")[-array.ndim :]
    stored = array[...]
    scale, offset = array.attrs.get("scale_factor", 1), array.attrs.get("add_offset", 0)
    np.testing.assert_allclose(stored * scale + offset, entry.read(name), atol=1e-7)
    np.testing.assert_array_equal(array[..., 3:9, 60:, :5], stored[..., 3:9, 60:, :5])


def test_the_group_is_walkable_from_its_root(entry):
    root = zarr.open_group(entry.zarr_path, mode="r")
    assert sorted(root.keys()) == ["labels", "target"]
    assert root["labels/labels/0"].dtype == np.uint8
    assert root.attrs["softlabels"]["grid"] == ALIGNED.to_json()


@pytest.mark.parametrize(
    "dtype", ["uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float32", "float64", "bool"]
)
def test_every_dtype_is_one_that_zarr_reads(store, dtype):
    values = (LABELS * 31 - 7).astype(dtype)
    entry = published(store, ALIGNED, Layer(f"map_{dtype}", values))
    np.testing.assert_array_equal(entry.stored(f"map_{dtype}")[...].astype(dtype), values)
    np.testing.assert_array_equal(entry.read(f"map_{dtype}"), values)


def test_infinity_is_infinity_to_every_reader(store):
    entry = published(store, ALIGNED, Layer("distance", DISTANCE, list("abc"), BitRound(14)))
    stored = entry.stored("distance")[...]
    np.testing.assert_array_equal(np.isinf(stored), np.isinf(DISTANCE))
    np.testing.assert_array_equal(stored, entry.read("distance"))


def test_missing_floats_are_nan_even_to_a_reader_that_does_not_check(store):
    entry = published(store, ALIGNED, Layer("plain", DISTANCE, list("abc")))
    assert np.isnan(entry.stored("plain").fill_value)


def test_every_chunk_is_in_the_file_even_where_all_is_zero(store):
    entry = published(store, ALIGNED, Layer("nothing", np.zeros(SHAPE, np.uint8)))
    array = entry.stored("nothing")
    assert array.nchunks == 4
    from softlabels.store.format import shard_path
    from softlabels.store.shard import read_shard_index

    file = entry.path / shard_path({"path": "nothing", "shape": SHAPE})
    name = file.relative_to(entry.path).as_posix()
    offsets, sizes, checksums = read_shard_index(file, file.stat().st_size, entry.files[name]["chunks_crc32c"]).T
    assert (sizes > 0).all()
    assert "".join(f"{checksum:08x}" for checksum in checksums) == entry.files[name]["chunks_crc32c"]
    assert (offsets == np.cumsum([0, *sizes[:-1]])).all()


def test_xarray_decodes_the_stored_integers(entry):
    data = xr.open_zarr(entry.zarr_path, consolidated=False)
    assert data.target.dims == ("c", "z", "y", "x")
    np.testing.assert_allclose(data.target.values, entry.read("target"), atol=1e-6)
    labels = xr.open_zarr(entry.zarr_path / "labels" / "labels", consolidated=False)
    np.testing.assert_array_equal(labels["0"].values, LABELS)


def test_dask_reads_and_reduces(entry):
    lazy = da.from_zarr(str(entry.zarr_path / "target"))
    assert lazy.chunks == ((3,), (20,), (35, 35), (34, 33))
    np.testing.assert_array_equal(lazy.sum(axis=(1, 2, 3)).compute(), entry.stored("target")[...].sum(axis=(1, 2, 3)))


def test_the_image_is_valid_ome_ngff(entry):
    image = Image.from_zarr(zarr.open_group(entry.zarr_path, mode="r"))
    multiscale = image.ome_attributes.multiscales[0]
    assert [axis.name for axis in multiscale.axes] == ["c", "z", "y", "x"]
    assert {axis.unit for axis in multiscale.axes if axis.type == "space"} == {"millimeter"}
    scale, translation = multiscale.datasets[0].coordinateTransformations
    assert scale.scale == [1.0, 3.0, 1.0, 0.8]
    assert translation.translation == [0.0, 4.0, 20.0, -7.5]
    # In 0.5 the validator lets the transitional `omero` pass unseen.
    attributes = json.loads((entry.zarr_path / "zarr.json").read_text())["attributes"]
    channels = Omero.model_validate(attributes["ome"]["omero"]).channels
    assert [channel.label for channel in channels] == ["background", "grey", "white"]
    assert (channels[0].window.start, channels[0].window.end) == (0, 255)


def test_the_labels_are_valid_ome_ngff(entry):
    labels = Labels.from_zarr(zarr.open_group(entry.zarr_path / "labels", mode="r"))
    assert labels.attributes.ome.labels == ["labels"]
    image_label = ImageLabel.from_zarr(zarr.open_group(entry.zarr_path / "labels" / "labels", mode="r"))
    assert image_label.attributes.ome.multiscales[0].datasets[0].coordinateTransformations[0].scale == [3.0, 1.0, 0.8]


@pytest.mark.parametrize(
    "layers",
    [
        [Layer("seeds", LABELS > 2)],
        [Layer("image", DISTANCE, ["T1", "T2", "FLAIR"]), Layer("domain", LABELS > 1)],
        [Layer("distance", np.full(SHAPE, np.inf, np.float32))],
    ],
    ids=lambda layers: layers[0].name,
)
def test_entries_of_every_stage_are_valid_images(store, layers):
    Image.from_zarr(zarr.open_group(published(store, OBLIQUE, *layers).zarr_path, mode="r"))


def test_an_oblique_grid_has_no_translation_but_its_whole_affine(store):
    entry = published(store, OBLIQUE, Layer("image", TARGET, list("abc")))
    attributes = json.loads((entry.zarr_path / "zarr.json").read_text())["attributes"]
    steps = attributes["ome"]["multiscales"][0]["datasets"][0]["coordinateTransformations"]
    assert [step["type"] for step in steps] == ["scale"]
    assert entry.grid == OBLIQUE
    np.testing.assert_array_equal(attributes["softlabels"]["grid"]["affine_ras"], OBLIQUE.affine_ras)
