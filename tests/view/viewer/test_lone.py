"""Laws of the page in one file, and of how `softlabels view` finds what to show."""

import base64
import gzip
import hashlib
import re

import nibabel
import numpy as np
import pytest
from helpers.made_cohort import key_of, make_cohort, publish, seeds_and_distance
from typer.testing import CliRunner

from softlabels.cli.commands import app
from softlabels.cohort.case import IndexedCohort
from softlabels.errors import InputError
from softlabels.grid import Grid
from softlabels.store import Store
from softlabels.view.entries import TargetEntries
from softlabels.view.viewer import lone
from softlabels.view.viewer.case_view import CaseView
from softlabels.view.viewer.fields import whole_field
from softlabels.view.viewer.lone import write_page
from softlabels.view.viewer.page import ASSETS, NIIVUE_SHA256, NIIVUE_VERSION
from softlabels.view.viewer.sources import entry_at, view_entry

SHAPE = (20, 70, 133)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort")
    make_cohort(folder, {"case": SHAPE})
    return folder


@pytest.fixture(scope="module")
def view(folder):
    cohort = IndexedCohort.open(folder / "results" / "index.json")
    store, grid = Store(folder / "store"), Grid(SHAPE, (3.0, 1.0, 1.0))
    _, distance = seeds_and_distance("case", SHAPE)
    publish(store, key_of("distance"), [distance], grid)
    (indexed,) = cohort.index.cases
    case = cohort.case(indexed)
    targets = {
        "geols": TargetEntries(cohort.target(indexed, "geols", prepared=case), distance=store.find(key_of("distance"))),
        "sing": TargetEntries(cohort.target(indexed, "sing", prepared=case)),
    }
    return CaseView(case, targets, title="case </script><b>")


def files_of(page):
    """Return the volumes of a page by name."""
    found = re.findall(r'<script type="application/gzip" class="file" data-name="([^"]+)">([^<]*)</script>', page)
    return {name: gzip.decompress(base64.b64decode(text)) for name, text in found}


def test_the_page_holds_every_channel_within_the_error_it_states(view, tmp_path):
    written = write_page([view], tmp_path / "deep" / "page.html", is_whole=True)
    files = files_of((tmp_path / "deep" / "page.html").read_text())
    assert sum(one.n_channels for one in written) == len(files)
    assert {one.layer for one in written} == set(view.layers)
    largest = {one.layer: one.error for one in written}
    for name, content in files.items():
        _, layer, channel = re.fullmatch(r"(\d+)/(.+)/(\d+)", name).groups()
        if layer == "labels":
            continue
        exact = view.values(layer, int(channel), whole_field(SHAPE, (3.0, 1.0, 1.0), 10**9)).astype(float)
        image = nibabel.Nifti1Image.from_bytes(content)
        np.testing.assert_allclose(image.affine, view.grid.to_nifti_affine())
        finite = np.isfinite(exact)
        assert np.abs(image.get_fdata().T - exact)[finite].max() <= largest[layer] + 1e-6
        raw = np.asarray(image.dataobj.get_unscaled()).T
        assert (raw[~finite] == 0).all()


def test_a_page_is_cut_to_the_labels_with_a_margin(view, tmp_path):
    write_page([view], tmp_path / "page.html", classes=["organ", "whole"])
    page = (tmp_path / "page.html").read_text()
    files = files_of(page)
    foreground = [part.stop - part.start for part in view.foreground]
    for content in files.values():
        image = nibabel.Nifti1Image.from_bytes(content)
        depth, height, width = image.shape[::-1]
        assert (depth, height, width) == tuple(
            min(b + m, n) - max(a - m, 0)
            for a, b, n, m in zip(
                *zip(*[(p.start, p.stop) for p in view.foreground], strict=True), SHAPE, (5, 15, 15), strict=True
            )
        )
        assert [depth, height, width] >= foreground
    # Of the classes that were not asked for, nothing but what belongs to all is in it.
    assert "0/geols/soft/1" in files
    assert "0/geols/soft/2" not in files
    assert "0/geols/entropy/0" in files


def test_a_name_cannot_end_a_script_and_nothing_is_loaded(view, tmp_path):
    write_page([view], tmp_path / "page.html", classes=["organ"])
    page = (tmp_path / "page.html").read_text()
    assert "case </script>" not in page
    assert not re.search(r"<(script|link|img|iframe)[^>]+(src|href)=\"?(https?:)?//", page)
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page).group(1)
    assert "default-src &#39;none&#39;" in policy
    assert "http" not in policy
    assert re.search(r"part: .*voxels z 0 to 19, y ", page)


def test_a_page_that_no_browser_holds_is_refused_with_the_remedy(view, tmp_path, monkeypatch):
    monkeypatch.setattr(lone, "MAX_TOTAL", 1000)
    with pytest.raises(InputError, match="Choose with --target and --class-name"):
        write_page([view], tmp_path / "page.html")
    with pytest.raises(InputError, match=r"class x: not in case .*, which has .*organ"):
        write_page([view], tmp_path / "page.html", classes=["x"])
    assert not list(tmp_path.iterdir())


def test_a_large_part_is_thinned_and_the_page_says_so(view, tmp_path, monkeypatch):
    monkeypatch.setattr(lone, "MAX_VOXELS", 5000)
    write_page([view], tmp_path / "page.html", classes=["organ"])
    page = (tmp_path / "page.html").read_text()
    assert re.search(r"every \d+ x \d+ x \d+ voxel", page)
    assert all(np.prod(nibabel.Nifti1Image.from_bytes(one).shape) <= 5000 for one in files_of(page).values())


def test_niivue_is_the_pinned_file_with_its_licence():
    assert hashlib.sha256((ASSETS / "niivue.umd.js").read_bytes()).hexdigest() == NIIVUE_SHA256
    licence = (ASSETS / "niivue.LICENSE.txt").read_text()
    assert f"@niivue/niivue {NIIVUE_VERSION}," in licence
    assert f"NiiVue {NIIVUE_VERSION}," in (ASSETS / "README.md").read_text()
    for holder in ("Niivue", "Brandon Jones", "RII-UTHSCSA", "Arjun Barrett", "Trevor Manz", "Andrea Giammarchi"):
        assert holder in licence


def test_an_entry_is_found_by_key_path_and_link(folder, tmp_path):
    store = Store(folder / "store")
    key = key_of("case", "prepare")
    entry = store.find(key)
    link = tmp_path / "prepare.zarr"
    link.symlink_to(entry.zarr_path)
    for place in (key, key[:12]):
        assert entry_at(place, folder / "store").key == key
    for place in (entry.path, entry.zarr_path, link, entry.zarr_path / "labels"):
        assert entry_at(str(place), None).key == key
    assert entry_at(key, None) is None
    assert entry_at("0" * 64, folder / "store") is None
    assert entry_at(str(tmp_path), folder / "store") is None


def test_keys_that_begin_alike_are_told_apart(folder, monkeypatch):
    monkeypatch.setattr(Store, "keys", lambda self: iter(["0123456789" + "a" * 54, "0123456789" + "b" * 54]))
    with pytest.raises(InputError, match="2 keys of .* begin so"):
        entry_at("01234567", folder / "store")


def test_an_entry_is_shown_with_what_it_was_computed_from(tmp_path):
    store, grid = Store(tmp_path / "store"), Grid(SHAPE, (3.0, 1.0, 1.0))
    make_cohort(tmp_path, {"case": SHAPE})
    prepare = key_of("case", "prepare")
    seeds, distance = seeds_and_distance("case", SHAPE)
    records = {"quality": {}, "grid": grid}
    store.publish(
        key_of("s"),
        [seeds],
        attributes={"stage": "seeds", "params": {}},
        provenance={"inputs": {"prepare": prepare}, "case": "one"},
        **records,
    )
    entry, _ = store.publish(
        key_of("d"),
        [distance],
        attributes={"stage": "distance", "params": {"metric": "l1"}},
        provenance={"inputs": {"prepare": prepare, "seeds": key_of("s")}, "case": "one"},
        **records,
    )
    shown = view_entry(entry)
    assert shown.id == f"one {entry.key[:12]}"
    assert list(shown.layers) == ["image", "labels", "distance", "seeds"]
    store.discard(prepare)
    assert list(view_entry(entry).layers) == ["distance", "seeds"]


def run(*arguments):
    return CliRunner().invoke(app, ["view", *map(str, arguments)])


def test_the_command_writes_a_page_of_an_entry_without_a_project(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    key = key_of("case", "prepare")
    result = run(key[:16], "--store", folder / "store", "--html", "page.html")
    assert result.exit_code == 0, result.output
    assert "opens without a network" in result.output
    assert set(files_of((tmp_path / "page.html").read_text())) == {"0/image/0", "0/image/1", "0/labels/0"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("a", "b", "c"), "got 3 cases, expected one, or two"),
        (("nobody",), "neither an entry of a store nor a case of a project"),
        (("nobody", "--store", "STORE"), "entry 'nobody': not in store"),
        (("KEY", "--store", "STORE", "--whole"), "--whole are for --html"),
    ],
)
def test_the_command_says_what_it_cannot_show(folder, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    known = {"STORE": str(folder / "store"), "KEY": key_of("case", "prepare")}
    result = run(*(known.get(one, one) for one in arguments))
    assert result.exit_code == 1
    assert message in str(result.exception)
