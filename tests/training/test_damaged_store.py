"""A damaged index or store is an error that names the case, and a moved one is found where the user says."""

import json
import os

import pytest
from helpers.made_cohort import SHAPES, make_cohort
from helpers.samples import same

from softlabels.errors import FormatError
from softlabels.training.dataset import SoftLabelDataset


@pytest.mark.parametrize("content", ["{", "[]", '{"format": "softlabels-index", "version": 2}', None])
def test_a_damaged_or_foreign_index_is_refused(tmp_path, content):
    path = tmp_path / "index.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(FormatError, match="index .*(again|snakemake)"):
        SoftLabelDataset(path, target="geols", mode="whole")


def test_any_changed_byte_of_the_index_is_noticed(tmp_path):
    index = make_cohort(tmp_path, {"small": SHAPES["small"]})
    good = index.read_bytes()
    for position in range(0, len(good), 7):
        bad = bytearray(good)
        bad[position] ^= 1
        index.write_bytes(bad)
        with pytest.raises(FormatError, match="index .*index.json: .*(again|snakemake)"):
            SoftLabelDataset(index, target="geols", mode="whole")
    index.write_text(good.decode().replace('"alpha": 0.1', '"alpha": 0.7'))
    with pytest.raises(FormatError, match="seal"):
        SoftLabelDataset(index, target="geols", mode="whole")


def test_a_store_that_was_moved_is_found_where_one_says(tmp_path):
    index = make_cohort(tmp_path, {"small": SHAPES["small"]})
    before = SoftLabelDataset(index, target="geols", mode="whole")[0]
    (tmp_path / "store").rename(tmp_path / "elsewhere")
    with pytest.raises(FormatError, match=r"store=\.\.\."):
        SoftLabelDataset(index, target="geols", mode="whole")[0]
    assert same(SoftLabelDataset(index, target="geols", mode="whole", store=tmp_path / "elsewhere")[0], before)


@pytest.mark.parametrize("damage", ["flip", "truncate", "delete", "swap", "gone"])
@pytest.mark.parametrize("role", ["prepare", "geols"])
def test_damage_is_an_error_that_names_case_and_entry(tmp_path, damage, role):
    index = make_cohort(tmp_path, {"small": SHAPES["small"], "empty": SHAPES["empty"]})
    cases = json.loads(index.read_text())["cases"]
    keys = [case["prepare"]["key"] if role == "prepare" else case["targets"][role]["key"] for case in cases]
    first, second = (tmp_path / "store" / "v1" / key[:2] / key for key in keys)
    shard = max(first.rglob("c/0/*/0/0"), key=lambda path: path.stat().st_size)
    for path in [first.parent, second.parent, *first.rglob("*"), first, second]:
        path.chmod(0o755)
    if damage == "flip":
        data = bytearray(shard.read_bytes())
        data[len(data) // 3] ^= 4
        shard.write_bytes(data)
    elif damage == "truncate":
        os.truncate(shard, 10)
    elif damage == "delete":
        shard.unlink()
    elif damage == "swap":
        first.rename(tmp_path / "aside")
        second.rename(first)
    else:
        first.rename(tmp_path / "aside")
    with pytest.raises(
        FormatError, match=f"case small, {'prepare' if role == 'prepare' else 'target .geols.'}, entry {keys[0][:12]}"
    ):
        SoftLabelDataset(index, target="geols", mode="whole")[0]
