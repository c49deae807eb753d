"""MONAI reads, moves and writes soft labels as SoftLabelDataset gives them, and nothing that it invents is valid."""

import pickle
import re

import numpy as np
import pytest
import torch
from helpers import ROOT
from helpers.made_cohort import IGNORE, SHAPES, make_cohort

from softlabels.errors import FormatError, InputError
from softlabels.training.dataset import SoftLabelDataset

pytest.importorskip("monai", reason="needs softlabels[monai]")
pytestmark = [
    pytest.mark.filterwarnings("ignore::softlabels.training.sampler.RepeatedPatchWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
CASES = {name: SHAPES[name] for name in ("small", "large", "empty")}


@pytest.fixture(scope="module", autouse=True)
def _quiet_import():
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import monai.transforms  # noqa: F401


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    affine, spacing = np.eye(4), (3.0, 1.0, 0.5)
    affine[:3, :3], affine[:3, 3] = rotation * spacing, (5.0, -7.0, 11.0)
    return make_cohort(tmp_path_factory.mktemp("cohort"), CASES, spacing, affine)


def loaded(items, *keys, **options):
    from monai.transforms import LoadImaged

    import softlabels.training.monai  # noqa: F401

    load = LoadImaged(list(keys), ensure_channel_first=True, **options)
    return [load(item) for item in items]


# ------------------------------------------------------------------------------------------------ reading


def test_loadimaged_finds_the_reader_and_gives_the_volumes_of_the_data_set(index):
    from monai.data import MetaTensor

    from softlabels.training.monai import data_list

    keys = ("image", "labels", "valid", "soft_label", "soft_label_sing")
    items = data_list(index, target="geols", further_targets=["sing"])
    whole = SoftLabelDataset(index, target="geols", further_targets=["sing"], mode="whole")
    assert [item["case_id"] for item in items] == list(CASES)
    for item, expected in zip(loaded(items, *keys), whole, strict=True):
        for key in keys:
            volume, wanted = item[key], expected[key]
            assert isinstance(volume, MetaTensor)
            wanted = wanted if wanted.ndim == 4 else wanted[None]
            torch.testing.assert_close(volume.as_tensor(), wanted.permute(0, 3, 2, 1).float(), rtol=0, atol=0)
            x, y, z = (2, 1, 3) if expected["case_id"] != "small" else (4, 8, 6)
            there = volume.affine.numpy() @ [x, y, z, 1.0]
            np.testing.assert_allclose(there, expected["affine"].numpy() @ [z, y, x, 1.0], atol=1e-9)
    assert (items[0]["image"].split("/")[-1], items[0]["soft_label_sing"].split("/")[-2:]) == (
        "small",
        ["sing", "small"],
    )


def test_the_reader_can_be_named_and_takes_another_blend_and_store(index, tmp_path):
    from softlabels.training.monai import data_list

    items = data_list(index, target="geols", split="train")
    options = {"reader": "softlabels.training.monai.SoftLabelReader", "alpha": 0.0}
    (hard, *_) = loaded(items, "soft_label", store=index.parents[1] / "store", **options)
    onehot = SoftLabelDataset(index, target="onehot", mode="whole")[0]["soft_label"]
    assert torch.equal(hard["soft_label"].as_tensor(), onehot.permute(0, 3, 2, 1))


def test_a_cohort_in_memory_is_cropped_by_monai(index):
    from monai.data import CacheDataset
    from monai.transforms import Compose, LoadImaged, RandCropByPosNegLabeld

    from softlabels.training.monai import data_list

    keys = ["image", "label", "soft_label"]
    crop = RandCropByPosNegLabeld(keys, label_key="label", spatial_size=(8, 8, 6), pos=1, neg=1, num_samples=2)
    chain = Compose([LoadImaged(keys, ensure_channel_first=True), crop])
    items = data_list(index, target="geols", cases=["large"], keys={"labels": "label"})
    for sample in CacheDataset(items, chain, progress=False)[0]:
        assert tuple(sample["soft_label"].shape) == (3, 8, 8, 6)
        inside = sample["label"][0] != IGNORE
        total = sample["soft_label"].as_tensor().sum(0)[inside.as_tensor()]
        torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=5e-3)


def test_saved_volumes_are_named_after_the_case_and_keep_their_place(index, tmp_path):
    import nibabel
    from monai.transforms import SaveImage

    from softlabels.training.monai import data_list

    items = data_list(index, target="geols", cases=["large"])
    (item,) = loaded(items, "soft_label")
    SaveImage(tmp_path, output_postfix="soft", separate_folder=False, print_log=False)(item["soft_label"])
    saved = nibabel.load(tmp_path / "large_soft.nii.gz")
    np.testing.assert_allclose(saved.affine, item["soft_label"].affine.numpy(), atol=1e-5)
    np.testing.assert_allclose(np.moveaxis(saved.get_fdata(), -1, 0), item["soft_label"].numpy(), atol=1e-6)


def test_a_volume_that_was_computed_again_is_not_taken_for_the_one_that_was_meant(tmp_path):
    from softlabels.training.monai import SoftLabelReader, data_list

    index = make_cohort(tmp_path, {"small": SHAPES["small"]})
    (item,) = data_list(index, target="geols")
    assert re.search(r"index.json/soft_label@[0-9a-f]{12}/geols/small$", item["soft_label"])
    changed = re.sub("@[0-9a-f]{12}", "@" + "0" * 12, item["soft_label"])
    reader = SoftLabelReader()
    with pytest.raises(FormatError, match="case small, soft_label: got entry .* expected 000000000000.*list again"):
        reader.get_data(reader.read(changed))
    without = re.sub("@[0-9a-f]{12}", "", item["soft_label"])
    assert reader.get_data(reader.read(without))[0].shape == (3, 5, 9, 7)


def test_damage_reaches_the_user_with_case_and_remedy(tmp_path):
    from softlabels.training.monai import data_list

    index = make_cohort(tmp_path, {"small": SHAPES["small"]})
    items = data_list(index, target="geols")
    (tmp_path / "store").rename(tmp_path / "elsewhere")
    with pytest.raises(FormatError, match=r"case small, prepare, entry .*no such folder. Mount it.*store=\.\.\."):
        loaded(items, "image")


def test_other_files_are_left_to_other_readers(index):
    from softlabels.training.monai import SoftLabelReader, data_list

    reader = SoftLabelReader()
    ours = data_list(index, target="geols")[0]["soft_label"]
    assert reader.verify_suffix(ours) and reader.verify_suffix([ours])
    for other in ("image.nii.gz", "folder/image/case.nii", "/data/labels.nii.gz", "index.json", ""):
        assert not reader.verify_suffix(other)
    with pytest.raises(InputError, match="expected one volume, such as index.json/image/CASE"):
        reader.read([ours, ours])
    with pytest.raises(TypeError, match="got beta, expected store, alpha, delta or epsilon"):
        SoftLabelReader(beta=1)
    assert pickle.loads(pickle.dumps(reader)).verify_suffix(ours)


def test_wrong_names_are_refused_where_the_list_is_made(index):
    from softlabels.training.monai import data_list

    with pytest.raises(InputError, match="'nope', expected one of"):
        data_list(index, target="nope")
    with pytest.raises(InputError, match="keys: got 'label', expected some of image, labels, valid, soft_label"):
        data_list(index, target="geols", keys={"label": "labels"})


# ------------------------------------------------------------------------------------------------ augmentation


def transforms(*keys):
    from monai.transforms import RandAffined, RandFlipd, RandGaussianNoised, RandRotate90d

    from softlabels.training.monai import KEYS, MODES

    keys, modes = KEYS + keys, MODES + ("bilinear",) * len(keys)
    ranges = {"rotate_range": 0.3, "scale_range": 0.1, "shear_range": 0.1, "translate_range": 2}
    return [
        RandFlipd(keys, prob=0.5, spatial_axis=0),
        RandRotate90d(keys, prob=0.5),
        RandAffined(keys, prob=0.8, mode=modes, padding_mode="zeros", **ranges),
        RandGaussianNoised("image", prob=0.2, std=0.01),
    ]


@pytest.mark.parametrize("patch_size", [(16, 16, 16), (16, 16)])
def test_all_volumes_move_alike_and_what_is_invented_is_not_valid(index, patch_size):
    from softlabels.training.monai import MonaiAugmentation

    augment = MonaiAugmentation(transforms("soft_label_sing"))
    assert augment.augmentations == ("flip", "rot90", "rotation", "shear", "rescale")
    options = {"target": "geols", "further_targets": ["sing"], "patch_size": patch_size, "patches_per_case": 4}
    plain, augmented = (SoftLabelDataset(index, transform=t, image_pad=2.0, **options) for t in (None, augment))
    n_invalid = n_moved = 0
    for i in range(len(plain)):
        before, after = plain[i], augmented[i]
        assert {k: (v.shape, v.dtype, type(v)) for k, v in after.items() if torch.is_tensor(v)} == {
            k: (v.shape, v.dtype, type(v)) for k, v in before.items() if torch.is_tensor(v)
        }
        total = after["soft_label"].sum(0)[after["valid"]]  # the ignore label belongs to no class
        torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=5e-3)
        assert after["soft_label_sing"].min() >= -1 - 1e-5
        n_invalid += int(before["valid"].sum() - after["valid"].sum())
        n_moved += not torch.equal(before["image"], after["image"])
    assert n_moved > 6 and n_invalid > 100
    again = SoftLabelDataset(index, transform=augment, image_pad=2.0, **options)[3]
    assert all(torch.equal(value, again[name]) for name, value in augmented[3].items() if torch.is_tensor(value))


@pytest.mark.parametrize("n_axes", [2, 3])
def test_valid_voxels_are_where_the_affine_says(n_axes):
    """The image is the position itself, which linear interpolation moves exactly."""
    from softlabels.training.monai import MonaiAugmentation

    shape = (14, 14, 14)[:n_axes]
    affine = torch.tensor(np.random.default_rng(2).normal(size=(4, 4)))
    affine[3] = torch.tensor([0.0, 0.0, 0.0, 1.0])
    voxels = torch.stack(torch.meshgrid(*map(torch.arange, shape), indexing="ij")).double()
    homogeneous = torch.cat([torch.zeros(3 - n_axes, *shape), voxels, torch.ones(1, *shape)])
    position = torch.einsum("ij,j...->i...", affine, homogeneous.double())[:3]
    sample = {
        "image": position,
        "soft_label": torch.ones(1, *shape),
        "labels": torch.ones(shape, dtype=torch.int64),
        "valid": torch.ones(shape, dtype=torch.bool),
        "affine": affine,
    }
    augment = MonaiAugmentation(transforms()[:3]).with_pads({"image": 0.0, "soft_label": (0.0,)})
    n_checked = 0
    for seed in range(6):
        moved = augment(sample, np.random.default_rng(seed))
        expected = torch.einsum("ij,j...->i...", moved["affine"], homogeneous.double())[:3]
        inside = moved["valid"]
        n_checked += int(inside.sum())
        torch.testing.assert_close(moved["image"].double()[:, inside], expected[:, inside], rtol=0, atol=2e-3)
        assert torch.equal(moved["soft_label"][0][inside], torch.ones(int(inside.sum())))
        assert (moved["labels"][inside] == 1).all()
    assert n_checked > 100


def test_the_contract_is_read_off_the_transforms(index):
    from monai.transforms import Compose, OneOf, Rand3DElasticd, RandAffined, RandSpatialCropd, RandZoomd

    from softlabels.training.monai import KEYS, MODES, MonaiAugmentation

    affine = RandAffined(KEYS, prob=1, rotate_range=0.2, mode=MODES, padding_mode="zeros")
    assert MonaiAugmentation(affine).augmentations == ("rotation",)
    zoom = RandZoomd(KEYS, prob=1, mode=("trilinear", "trilinear", "nearest", "trilinear"), padding_mode="constant")
    assert MonaiAugmentation(Compose([OneOf([affine, zoom])])).augmentations == ("rotation", "rescale")
    elastic = Rand3DElasticd(KEYS, (1, 2), (1, 2), mode=MODES, padding_mode="zeros")
    with pytest.raises(InputError, match="does elastic, which would make target 'geols' wrong"):
        SoftLabelDataset(index, target="geols", mode="whole", transform=MonaiAugmentation(elastic))
    crop = RandSpatialCropd(KEYS, (4, 4, 4))
    with pytest.raises(InputError, match="RandSpatialCropd: what it does to a soft label is not known here. Name it"):
        MonaiAugmentation(crop)
    assert MonaiAugmentation(crop, augmentations=()).augmentations == ()


def test_what_would_invent_labels_or_tear_volumes_apart_is_refused(index):
    from monai.transforms import RandAffined, RandFlip, RandFlipd

    from softlabels.training.monai import KEYS, MODES, MonaiAugmentation

    for options, message in [
        ({"mode": MODES}, "padding_mode 'reflection' would make invented voxels of soft_label valid. .*'zeros'"),
        ({"mode": "bilinear", "padding_mode": "zeros"}, "mode 'bilinear' would blend label values"),
    ]:
        with pytest.raises(InputError, match=message):
            MonaiAugmentation(RandAffined(KEYS, prob=1, **options))
    border = ("border", "zeros", "zeros", "zeros")
    MonaiAugmentation(RandAffined(KEYS, prob=1, mode=MODES, padding_mode=border))
    with pytest.raises(InputError, match="RandFlipd: moves image, labels, but not soft_label, valid"):
        MonaiAugmentation(RandFlipd(("image", "labels")))
    with pytest.raises(InputError, match="RandFlipd: moves image alone"):
        MonaiAugmentation(RandFlipd("image"))
    with pytest.raises(InputError, match="RandFlip: takes arrays, expected a dictionary transform"):
        MonaiAugmentation(RandFlip())
    with pytest.raises(InputError, match="but not soft_label_sing. Give it all"):
        flip = MonaiAugmentation(RandFlipd(KEYS))
        SoftLabelDataset(index, target="geols", further_targets=["sing"], mode="whole", transform=flip)


def test_gaussian_weights_are_those_of_monai():
    from monai.data.utils import compute_importance_map

    from softlabels.loader import gaussian_weight

    ours, theirs = gaussian_weight((12, 16, 10)), compute_importance_map((12, 16, 10), mode="gaussian").numpy()
    is_kept = theirs > theirs.min()  # MONAI raises the smallest to 0.001
    np.testing.assert_allclose(ours[is_kept] / ours.max(), theirs[is_kept] / theirs.max(), rtol=1e-4)


# ------------------------------------------------------------------------------------------------ the page


def test_the_monai_recipes_of_the_loader_page_run(index, monkeypatch):
    page = (ROOT / "docs" / "loader.md").read_text()
    section = page[page.index("\n## MONAI\n") : page.index("\n## TorchIO\n")]
    blocks = re.findall(r"```py\n(.*?)```", section, re.DOTALL)
    monkeypatch.chdir(index.parents[1])
    names = {}
    for block in blocks:
        exec(block, names)
    assert len(blocks) == 2
    assert names["dataset"][0]["label"].shape == (16, 32, 32)
    sample = names["in_memory"][0][0]
    assert sample["soft_label"].shape[0] == 3 and sample["soft_label"].affine.shape == (4, 4)
