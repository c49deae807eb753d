"""The viewer in a real browser: what is drawn where, and the values that it names."""

import re

import nibabel
import numpy as np
import pytest
from helpers.made_view import CLASSES, SHAPE, VOXELS, make_case
from helpers.viewer_page import TOLERANCE, at, colour, cursor, expect_value, go, picture, settle, value

from softlabels.grid import Grid
from softlabels.view.viewer.lone import write_page

from .conftest import opened, serving


@pytest.mark.parametrize("voxel", VOXELS)
def test_a_voxel_is_drawn_in_its_colour_at_its_place(page, straight, voxel):
    _, arrays = straight
    page.evaluate("softlabels.setClass(softlabels.state.rows[0], 'organ')")
    go(page, voxel)
    grey = colour("gray", (arrays["image"][voxel] + 100) / 400)
    soft = arrays["soft"][1][voxel]
    expected = colour("viridis", soft) if soft > 0 else grey
    np.testing.assert_allclose(at(page, "soft", voxel), expected, atol=TOLERANCE)
    reached = arrays["distance"][1][voxel]
    expected = colour("magma", reached / 40) if np.isfinite(reached) else grey
    np.testing.assert_allclose(at(page, "distance", voxel), expected, atol=TOLERANCE)
    expected = np.array([0xE6, 0x9F, 0x00]) if arrays["seeds"][1][voxel] else grey
    np.testing.assert_allclose(at(page, "seeds", voxel), expected, atol=TOLERANCE)
    tint = {0: None, 1: [0xE6, 0x9F, 0x00], 2: [0x56, 0xB4, 0xE9]}[int(arrays["labels"][voxel])]
    expected = grey if tint is None else 0.55 * grey + 0.45 * np.array(tint)
    np.testing.assert_allclose(at(page, "labels", voxel), expected, atol=TOLERANCE)
    assert not page.faults


def test_the_class_changes_colours_and_values(page, straight):
    _, arrays = straight
    differing = np.argwhere((arrays["soft"][1] != arrays["soft"][2]) & (arrays["soft"][1:] > 0).all(axis=0))
    voxel = next(tuple(v) for v in differing.tolist() if v[1] % 10 == 5 and v[2] % 10 == 5)
    go(page, voxel)
    for channel, name in ((1, "organ"), (2, "tumour")):
        page.select_option("select.class", name)
        settle(page)
        np.testing.assert_allclose(
            at(page, "soft", voxel), colour("viridis", arrays["soft"][channel][voxel]), atol=TOLERANCE
        )
        expect_value(page, "soft", f"{arrays['soft'][channel][voxel]:g}")


def test_values_of_every_layer_are_those_of_the_store(page, straight):
    _, arrays = straight
    page.evaluate("softlabels.setClass(softlabels.state.rows[0], 'tumour')")
    page.evaluate("document.getElementById('all-values').open = true")
    for voxel in VOXELS:
        go(page, voxel)
        label = int(arrays["labels"][voxel])
        distance = arrays["distance"][2][voxel]
        expected = {
            "image: CT": f"{arrays['image'][voxel]:g}",
            "labels": f"{CLASSES[label].name} ({label})",
            "distance: CT:tumour": f"{distance:g}" if np.isfinite(distance) else "not reached",
            "soft label: tumour": f"{arrays['soft'][2][voxel]:g}",
            "soft minus hard: tumour": f"{arrays['soft'][2][voxel] - (label == 2):g}",
            "seeds: tumour": str(int(arrays["seeds"][2][voxel])),
        }
        page.wait_for_function(
            "(expected) => { const found = Object.fromEntries([...document.querySelectorAll('#values tr')]"
            ".map((row) => [...row.cells].map((cell) => cell.textContent)));"
            "return Object.entries(expected).every(([name, text]) => found[name] === text) }",
            arg=expected,
            timeout=20_000,
        )
    page.evaluate("document.getElementById('all-values').open = false")


def test_the_colour_range_can_be_narrowed_and_reset(page, straight):
    _, arrays = straight
    page.evaluate("softlabels.setClass(softlabels.state.rows[0], 'organ')")
    settle(page)
    voxel = next(tuple(v) for v in np.argwhere(arrays["soft"][1] == 0.25).tolist() if v[1] % 10 == 5 and v[2] % 10 == 5)
    go(page, voxel)
    panel = page.locator("[data-kind=soft]")
    panel.locator(".gear").click()
    panel.locator(".to").fill("0.5")
    panel.locator(".to").press("Enter")
    settle(page)
    np.testing.assert_allclose(at(page, "soft", voxel), colour("viridis", 0.5), atol=TOLERANCE)
    panel.locator(".auto").click()
    settle(page)
    np.testing.assert_allclose(at(page, "soft", voxel), colour("viridis", 0.25), atol=TOLERANCE)
    panel.locator(".gear").click()


def test_every_voxel_around_the_cursor_can_be_drawn(page, straight):
    _, arrays = straight
    page.select_option("select.class", "tumour")
    go(page, (4, 15, 15))
    page.select_option("#field", "detail")
    settle(page)
    expect_value(page, "soft", f"{arrays['soft'][2][4, 15, 15]:g}")
    page.select_option("#field", "whole")
    settle(page)


def test_an_oblique_case_is_where_nibabel_says(browser, oblique):
    view, arrays = oblique
    image = nibabel.Nifti1Image(arrays["image"].T, view.grid.to_nifti_affine())
    with serving([view]) as address, opened(browser, address) as page:
        page.keyboard.press("x")
        for voxel in VOXELS:
            go(page, voxel)
            expected = nibabel.affines.apply_affine(image.affine, voxel[::-1])
            np.testing.assert_allclose(cursor(page), expected, atol=0.06)
            expect_value(page, "soft", f"{arrays['soft'][1][voxel]:g}")
        # A click: place, value and the colour under the pointer must belong to one voxel.
        for plane in ("axial", "coronal", "sagittal"):
            page.select_option("#plane", plane)
            settle(page)
            box = page.locator("[data-kind=labels] canvas").bounding_box()
            page.keyboard.press("l")
            for share in ((0.43, 0.47), (0.57, 0.47)):
                x, y = box["width"] * share[0], box["height"] * share[1]
                page.mouse.click(box["x"] + x, box["y"] + y)
                settle(page)
                voxel = np.rint(nibabel.affines.apply_affine(np.linalg.inv(image.affine), cursor(page))).astype(int)
                expected = image.get_fdata()[tuple(voxel)]
                page.wait_for_function(
                    "(text) => document.querySelector('[data-kind=labels] .value').textContent.endsWith(text)",
                    arg=f" {expected:g}",
                    timeout=20_000,
                )
                shot = picture(page, "labels")
                np.testing.assert_allclose(shot[int(y), int(x)], colour("gray", (expected + 100) / 400), atol=TOLERANCE)
            page.keyboard.press("l")
        assert not page.faults


def test_the_page_in_one_file_needs_no_network(browser, straight, tmp_path):
    view, arrays = straight
    written = write_page([view], tmp_path / "page.html", is_whole=True)
    errors = {one.layer: one.error for one in written}
    assert errors["svls/soft"] > 0
    with opened(browser, (tmp_path / "page.html").as_uri(), offline=True) as page:
        assert all(re.match("file:|blob:|data:", url) for url in page.requests)
        page.keyboard.press("x")
        for voxel in VOXELS[1:3]:
            go(page, voxel)
            soft = arrays["soft"][1][voxel]
            page.wait_for_function(
                "() => document.querySelector('[data-kind=soft] .value').textContent !== ''", timeout=20_000
            )
            found = re.match(r"([-\d.]+)(?: ± ([\d.e-]+))?$", value(page, "soft"))
            assert abs(float(found[1]) - soft) <= errors["svls/soft"] * 1.1 + 5e-5
            distance = arrays["distance"][1][voxel]
            if np.isinf(distance):
                assert value(page, "distance") == "not reached"
        assert not page.faults


def test_damage_is_named_in_its_panel_and_the_others_work(browser, tmp_path):
    view, _ = make_case(tmp_path, "damaged", Grid(SHAPE, (3.0, 1.0, 1.0)))
    (shard,) = view.targets["svls"].distance.zarr_path.glob("**/c/0/0/0/0")
    content = bytearray(shard.read_bytes())
    content[60] ^= 1
    shard.chmod(0o644)
    shard.write_bytes(content)
    with serving([view]) as address, opened(browser, address) as page:
        assert "is damaged" in page.locator("[data-kind=distance] .says").inner_text()
        assert page.locator("[data-kind=soft] .says").inner_text() == ""
