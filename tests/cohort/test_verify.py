"""What an index names can be checked without its project, and each fault names case, role and remedy."""

import pytest
from helpers.made_cohort import SHAPES, make_cohort

from softlabels.cohort import IndexedCohort
from softlabels.cohort.verify import verify_cohort


@pytest.fixture
def index(tmp_path):
    return make_cohort(tmp_path, {"small": SHAPES["small"], "empty": SHAPES["empty"]})


def folder_of(index, case_id, target):
    cohort = IndexedCohort.open(index)
    key = cohort.index.case(case_id).targets[target].key
    folder = cohort.store / "v1" / key[:2] / key
    for path in [folder.parent, *folder.rglob("*"), folder]:
        path.chmod(0o755)
    return folder


def test_sound_entries_have_no_damage_and_each_is_visited_once(index):
    seen = []
    assert verify_cohort(IndexedCohort.open(index), deep=True, progress=lambda *at: seen.append(at)) == []
    assert seen == [(n, 8) for n in range(1, 9)]


def test_an_entry_that_is_gone_is_absent(index):
    folder = folder_of(index, "empty", "sing")
    folder.rename(folder.with_name("aside"))
    (found,) = verify_cohort(IndexedCohort.open(index))
    assert found.is_absent and found.is_certain
    assert f"case empty, target 'sing', entry {folder.name[:12]}: not in store" in found.message
    assert "in the project's folder, run `softlabels verify --discard`" in found.message


def test_a_flipped_bit_is_damage_that_only_a_deep_look_finds(index):
    folder = folder_of(index, "small", "geols")
    shard = next(path for path in folder.rglob("c/0/*/0/0"))
    content = bytearray(shard.read_bytes())
    content[3] ^= 8
    shard.write_bytes(content)
    assert verify_cohort(IndexedCohort.open(index)) == []
    (found,) = verify_cohort(IndexedCohort.open(index), deep=True)
    assert not found.is_absent and "case small, target 'geols'" in str(found) and str(shard) in str(found)


def test_another_entry_in_its_place_is_damage(index):
    """Verification of the store alone cannot see it: the manifest is sound, but not the one of the index."""
    first, second = (folder_of(index, case, "geols") for case in ("small", "empty"))
    manifest = (second / "MANIFEST.json").read_text().replace(second.name, first.name)
    (first / "MANIFEST.json").write_text(manifest)
    (found,) = verify_cohort(IndexedCohort.open(index))
    assert "case small, target 'geols'" in found.message and "MANIFEST.json" in found.message
