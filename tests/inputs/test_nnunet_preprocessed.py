"""nnU-Net's preprocessed arrays: read as they are, spacing from the plans, and nothing else believed."""

import json
import pickle
import shutil

import blosc2
import numpy as np
import pytest
from helpers.made_nnunet import LABELS, REGIONS, SHAPES, arrays, write_array, write_preprocessed
from hypothesis import given, settings
from hypothesis import strategies as st

from softlabels.config import parse_config
from softlabels.errors import ConfigError, InputError
from softlabels.inputs.case import check_case, read_case, read_volume
from softlabels.inputs.importers import import_nnunet_preprocessed
from softlabels.inputs.sheet import read_sheet, write_sheet
from softlabels.inputs.volume import read_header

SPACING = (3.0, 0.8, 0.9)
SPLITS = [{"train": ["b", "c"], "val": ["a"]}, {"train": ["a"], "val": ["b", "c"]}]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return write_preprocessed(tmp_path_factory.mktemp("preprocessed"), splits=SPLITS)


@pytest.mark.parametrize(("name", "z"), [("nnUNetPlans_3d_fullres", 3.0), ("nnUNetPlans_2d", 3.0)])
def test_cases_are_the_arrays_with_the_spacing_of_the_plans(dataset, name, z):
    cases, channels, labels, *_ = import_nnunet_preprocessed(dataset / name)
    assert [case.id for case in cases] == list(SHAPES)
    assert channels == ["T1", "T2_w"]
    assert list(labels.items()) == [("background", 0), ("organ", 1), ("tumour", 2)]
    assert [case.split for case in cases] == ["fold0", "fold1", "fold1"]
    for case in cases:
        volumes = read_case(case, channels, labels.values())
        image, seg = arrays(case.id)
        np.testing.assert_array_equal(volumes.image, image)
        np.testing.assert_array_equal(volumes.labels, np.maximum(seg[0], 0))
        assert volumes.labels.dtype == np.uint8
        assert volumes.grid.spacing == (z, 0.8, 0.9)
        assert volumes.grid.position((1, 0, 0)) == (0.0, 0.0, z)


def test_a_sheet_keeps_the_spacing(dataset, tmp_path):
    cases, channels, *_ = import_nnunet_preprocessed(dataset / "nnUNetPlans_3d_fullres")
    write_sheet(cases, tmp_path / "cases.tsv", channels)
    assert read_sheet(tmp_path / "cases.tsv", channels, check_files=True) == cases


@pytest.mark.parametrize("cell", ["1 2", "1 2 3 4", "0 1 1", "nan 1 1", "1 x 1", "1,1,1"])
def test_a_spacing_that_is_none_is_refused(tmp_path, cell):
    (tmp_path / "cases.tsv").write_text(f"case\timage\tlabel\tspacing\na\ta.b2nd\tb.b2nd\t{cell}\n")
    with pytest.raises(ConfigError, match="line 2: case 'a', column 'spacing': got .* expected 3 numbers"):
        read_sheet(tmp_path / "cases.tsv", ["T1"])


def test_regions_keep_the_order_of_the_heads(tmp_path):
    dataset = write_preprocessed(tmp_path, labels=REGIONS)
    cases, _, labels, *_ = import_nnunet_preprocessed(dataset / "nnUNetPlans_2d")
    assert list(labels.items()) == list(REGIONS.items())
    assert {case.split for case in cases} == {None}


def test_the_digest_is_that_of_the_content(tmp_path):
    image, _ = arrays("a")
    write_array(tmp_path / "a.b2nd", image)
    blosc2.asarray(image, urlpath=str(tmp_path / "same.b2nd"), chunks=image.shape, blocks=image.shape)
    write_array(tmp_path / "other.b2nd", image + np.float32(1))
    first = read_volume(tmp_path / "a.b2nd", spacing=SPACING)
    assert (tmp_path / "a.b2nd").read_bytes() != (tmp_path / "same.b2nd").read_bytes()
    assert read_volume(tmp_path / "same.b2nd", spacing=SPACING).digest == first.digest
    assert read_volume(tmp_path / "other.b2nd", spacing=SPACING).digest != first.digest
    assert read_volume(tmp_path / "a.b2nd", spacing=(3.0, 0.8, 0.8)).digest != first.digest


def test_the_header_says_what_the_samples_are(tmp_path):
    image, _ = arrays("b")
    write_array(tmp_path / "b.b2nd", image)
    header = read_header(tmp_path / "b.b2nd", SPACING)
    assert (header.size_xyz, header.n_channels, header.spacing_xyz) == (SHAPES["b"][::-1], 2, SPACING[::-1])


def test_spacing_is_asked_for_exactly_where_the_file_has_none(tmp_path, dataset):
    with pytest.raises(InputError, match="b2nd has no voxel size; give it in the sheet's column 'spacing'"):
        read_volume(dataset / "nnUNetPlans_2d" / "a.b2nd")
    nrrd = tmp_path / "a.nrrd"
    nrrd.write_text("NRRD0004\ntype: uint8\ndimension: 3\nsizes: 1 1 1\nencoding: raw\nspacings: 1 1 1\n\n0")
    with pytest.raises(InputError, match="has a voxel size of its own"):
        read_volume(nrrd, spacing=SPACING)


@pytest.mark.parametrize("change", [lambda b: b[:-1], lambda b: b + b"\0", lambda b: b[:30], lambda b: b[:6]])
def test_a_file_of_another_length_is_refused(tmp_path, dataset, change):
    path = tmp_path / "a.b2nd"
    path.write_bytes(change((dataset / "nnUNetPlans_2d" / "a.b2nd").read_bytes()))
    with pytest.raises(InputError, match=r"a\.b2nd: .*preprocessing again"):
        read_volume(path, spacing=SPACING)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damage_in_the_samples_is_noticed_or_is_other_content(tmp_path_factory, dataset, data):
    """There is no checksum: what is not noticed must at least have another digest, so that no entry is taken for it."""
    original = dataset / "nnUNetPlans_2d" / "a.b2nd"
    content = bytearray(original.read_bytes())
    position = data.draw(st.integers(400, len(content) - 1))
    content[position] ^= 1 << data.draw(st.integers(0, 7))
    path = tmp_path_factory.mktemp("damaged") / "a.b2nd"
    path.write_bytes(content)
    whole = read_volume(original, spacing=SPACING)
    try:
        volume = read_volume(path, spacing=SPACING)
    except InputError as error:
        assert str(path) in str(error)
    else:
        same = np.array_equal(volume.values, whole.values)
        assert (volume.digest == whole.digest) == same


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((3, 4, 5), np.float32), "expected real numbers"),
        (np.zeros((1, 3, 4, 5), np.complex64), "got complex64"),
    ],
)
def test_what_is_no_array_of_nnunet_is_refused(tmp_path, values, message):
    blosc2.asarray(values, urlpath=str(tmp_path / "a.b2nd"))
    with pytest.raises(InputError, match=message):
        read_volume(tmp_path / "a.b2nd", spacing=SPACING)


def test_too_many_voxels_are_refused_before_they_are_unpacked(dataset):
    with pytest.raises(InputError, match="got 4320 voxels, expected at most 4319"):
        read_volume(dataset / "nnUNetPlans_2d" / "a.b2nd", spacing=SPACING, max_voxels=4319)


def test_foreign_labels_are_refused(dataset):
    (case, *_), channels, *_ = import_nnunet_preprocessed(dataset / "nnUNetPlans_2d")
    findings = check_case(case, channels=channels, label_values=[0, 1])
    assert [str(p) for p in findings if p.is_error] == [
        f"case a, label: labels that are not declared: 2 ({(arrays('a')[1] == 2).sum()} of 2160 voxels); "
        "expected [0, 1]; declare or remap them"
    ]


def _without_plan(dataset):
    (dataset / "nnUNetPlans.json").unlink()


def _two_plans(dataset):
    plans = json.loads((dataset / "nnUNetPlans.json").read_text())
    plans["configurations"]["2d"]["spacing"] = [1.0, 1.0]
    (dataset / "other.json").write_text(json.dumps(plans))


def _hostile_properties(dataset):
    (dataset / "nnUNetPlans_2d" / "b.pkl").write_bytes(pickle.dumps(shutil.rmtree))


def _no_segmentation(dataset):
    (dataset / "nnUNetPlans_2d" / "b_seg.b2nd").unlink()


def _no_properties(dataset):
    (dataset / "nnUNetPlans_2d" / "b.pkl").unlink()


def _foreign_splits(dataset):
    (dataset / "splits_final.json").write_text('{"train": []}')


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_without_plan, "no plans in .* name it as data_identifier"),
        (_two_plans, "with several spacings"),
        (_hostile_properties, r"b\.pkl: not the properties of a case \(it holds shutil\.rmtree"),
        (_no_segmentation, r"case b, label: no file .*b_seg\.b2nd"),
        (_no_properties, r"b\.pkl: No such file"),
        (_foreign_splits, r"splits_final\.json: expected a list"),
    ],
)
def test_a_folder_that_does_not_fit_is_one_clear_error(tmp_path, damage, message):
    dataset = write_preprocessed(tmp_path)
    damage(dataset)
    with pytest.raises(ConfigError, match=message):
        import_nnunet_preprocessed(dataset / "nnUNetPlans_2d")


def test_another_folder_is_told_which_one_is_meant(dataset, tmp_path):
    with pytest.raises(ConfigError, match="give one of its folders: nnUNetPlans_2d, nnUNetPlans_3d_fullres"):
        import_nnunet_preprocessed(dataset)
    with pytest.raises(ConfigError, match="no such folder"):
        import_nnunet_preprocessed(tmp_path / "nowhere")
    (tmp_path / "case.npz").touch()
    with pytest.raises(ConfigError, match="preprocess again with 2.6 or newer"):
        import_nnunet_preprocessed(tmp_path)


@pytest.mark.parametrize(("labels", "targets"), [(LABELS, ["geols"]), (REGIONS, ["sing"])])
def test_init_begins_a_project_on_the_arrays_as_they_are(tmp_path, labels, targets):
    import yaml
    from typer.testing import CliRunner

    from softlabels.cli.commands import app

    dataset = write_preprocessed(tmp_path / "preprocessed", labels=labels)
    before = sorted(dataset.rglob("*"))
    project = tmp_path / "project"
    arguments = ["init", str(project), "--nnunet-preprocessed", str(dataset / "nnUNetPlans_3d_fullres")]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    config = parse_config(yaml.safe_load((project / "config.yaml").read_text()))
    assert list(config.targets) == targets
    prepare = config.prepare
    assert (prepare.spacing, prepare.normalise, prepare.crop) == ("native", "none", "none")
    assert (prepare.clip_percentiles, prepare.domain) == (None, "none")
    cases = read_sheet(project / "cases.tsv", config.channels, check_files=True)
    assert {case.spacing for case in cases} == {SPACING}
    assert sorted(dataset.rglob("*")) == before


def test_init_takes_one_data_set_only(tmp_path):
    from typer.testing import CliRunner

    from softlabels.cli.commands import app

    result = CliRunner().invoke(app, ["init", str(tmp_path / "p"), "--nnunet-preprocessed", "a", "--msd", "b"])
    assert isinstance(result.exception, InputError)
    assert "--nnunet-preprocessed" in str(result.exception)
