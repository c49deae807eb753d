"""The viewer in a real browser: what is drawn where, what the cursor reads, and what keys and fingers do."""

import io
import re

import nibabel
import numpy as np
import pytest
from helpers.made_cohort import description, key_of, publish
from matplotlib import colormaps
from matplotlib.image import imread

from softlabels.blend import Blend
from softlabels.classes import LabelClass
from softlabels.cohort.case import CaseTarget, PreparedCase
from softlabels.grid import Grid
from softlabels.store import Layer, Lossless, Store
from softlabels.view.entries import TargetEntries
from softlabels.view.viewer.case_view import CaseView
from softlabels.view.viewer.lone import write_page

from .conftest import opened, serving

SHAPE = (6, 40, 60)
CLASSES = (LabelClass("background", (0,)), LabelClass("organ", (1,)), LabelClass("tumour", (2,)))
DESCRIPTION = description("svls", "paper", CLASSES, Blend("none"))
#: NiiVue's colour table has 256 entries, filled from 17 colours; the screen rounds once more.
TOLERANCE = 10


def blocks(rng, levels, shape=SHAPE, size=(2, 10, 10)):
    """Return values that are constant in blocks, so that the middle of a voxel is far from another colour."""
    coarse = rng.choice(levels, [-(-n // s) for n, s in zip(shape, size, strict=True)])
    for axis, s in enumerate(size):
        coarse = coarse.repeat(s, axis)
    return coarse[tuple(slice(n) for n in shape)].astype(np.float32)


def make_case(folder, name, grid, seed=0):
    """Publish a case with one target and return its view and its arrays."""
    rng = np.random.default_rng(seed)
    soft = np.stack([blocks(rng, [0.0, 0.25, 0.5, 0.75, 1.0]) for _ in CLASSES])
    labels = blocks(rng, [0, 1, 2]).astype(np.uint8)
    distance = np.stack([blocks(rng, [0.0, 10.0, 20.0, 40.0]) for _ in CLASSES])
    distance[:, :, :10] = np.inf
    arrays = {"image": blocks(rng, [-100.0, 0.0, 40.0, 300.0]), "labels": labels, "soft": soft, "distance": distance}
    arrays["seeds"] = distance == 0
    names = [one.name for one in CLASSES]
    store, made = Store(folder / "store"), {}
    for stage, layers in {
        "prepare": [
            Layer("image", arrays["image"][None], ["CT"], Lossless()),
            Layer("labels", labels, encoding=Lossless(), role="labels"),
        ],
        "seeds": [Layer("seeds", arrays["seeds"], names, Lossless())],
        "distance": [Layer("distance", distance, [f"CT:{one}" for one in names], Lossless())],
        "target": [Layer("target", soft, names, Lossless())],
    }.items():
        publish(store, key_of(name, stage), layers, grid)
        made[stage] = store.find(key_of(name, stage))
    case = PreparedCase(name, made["prepare"])
    target = CaseTarget(case, "svls", DESCRIPTION, made["target"])
    return CaseView(case, {"svls": TargetEntries(target, made["seeds"], made["distance"])}), arrays


def oblique_grid():
    """Return a grid turned by about 20 degrees, its axes in an unusual order and direction."""
    turn = np.linalg.qr(np.array([[0.2, -0.95, 0.2], [-0.3, 0.1, 1.0], [0.9, 0.3, 0.2]]))[0]
    affine = np.block([[turn * [3.0, 1.0, 0.8], np.array([[13.0], [-40.0], [7.0]])], [0, 0, 0, 1]])
    return Grid(SHAPE, (3.0, 1.0, 0.8), affine)


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    return make_case(tmp_path_factory.mktemp("straight"), "straight", Grid(SHAPE, (3.0, 1.0, 1.0)))


@pytest.fixture(scope="module")
def oblique(tmp_path_factory):
    return make_case(tmp_path_factory.mktemp("oblique"), "oblique", oblique_grid())


@pytest.fixture(scope="module")
def page(browser, straight):
    """A page of the straight case without a cross hair, which would hide what is under it."""
    with serving([straight[0]]) as address, opened(browser, address) as page:
        page.keyboard.press("x")
        yield page


def settle(page):
    page.evaluate("softlabels.settled()")
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def go(page, voxel, case=0):
    page.evaluate("([number, voxel]) => softlabels.goTo(number, voxel)", [case, list(voxel)])
    settle(page)


def picture(page, kind):
    """Return the canvas of a panel as (h, w, 3) integers."""
    png = page.locator(f"[data-kind={kind}] canvas").first.screenshot()
    return (imread(io.BytesIO(png))[..., :3] * 255).astype(int)


def at(page, kind, voxel):
    """Return the colour of an axial slice's voxel (z, y, x), from where it must be on the screen.

    The slice fills its canvas as far as it can and is centred; the patient's right is on the left, front is up.
    """
    shot = picture(page, kind)
    height, width = shot.shape[:2]
    _, y, x = voxel
    scale = min(width / SHAPE[2], height / SHAPE[1])
    column = width / 2 + (SHAPE[2] / 2 - (x + 0.5)) * scale
    row = height / 2 + (SHAPE[1] / 2 - (y + 0.5)) * scale
    return shot[int(row), int(column)]


def colour(name, share):
    return np.array(colormaps[name](float(np.clip(share, 0, 1)))[:3]) * 255


def value(page, kind):
    return page.locator(f"[data-kind={kind}] .value").first.inner_text()


def expect_value(page, kind, text):
    page.wait_for_function(
        "([kind, text]) => document.querySelector(`[data-kind=${kind}] .value`).textContent === text",
        arg=[kind, text],
        timeout=20_000,
    )


VOXELS = [(0, 5, 5), (1, 25, 35), (3, 35, 55), (5, 15, 45), (4, 15, 15)]


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


def test_a_class_switch_by_key_goes_round(page):
    page.select_option("select.class", "tumour")
    settle(page)
    for expected in ("background", "organ", "tumour"):
        page.keyboard.press("c")
        assert page.evaluate("softlabels.state.rows[0].class") == expected
    page.keyboard.press("Shift+C")
    assert page.evaluate("softlabels.state.rows[0].class") == "organ"
    settle(page)


def test_slices_are_turned_by_key_slider_and_wheel(page, straight):
    _, arrays = straight
    go(page, (2, 15, 35))
    page.keyboard.press(".")
    assert page.inner_text("#slice-number") == "4 of 6"
    page.locator("[data-kind=soft] .picture").hover()
    page.mouse.wheel(0, 100)
    page.wait_for_function("() => document.querySelector('#slice-number').textContent === '5 of 6'")
    page.locator("#slice").fill("1")
    page.wait_for_function("() => document.querySelector('#slice-number').textContent === '2 of 6'")
    settle(page)
    soft = arrays["soft"][1][1, 15, 35]
    expect_value(page, "soft", f"{soft:g}")
    assert re.search(r"voxel z 1, y 15, x 35", page.inner_text("#place"))


@pytest.mark.parametrize(
    ("key", "change"),
    [("ArrowLeft", (0, 0, 1)), ("ArrowRight", (0, 0, -1)), ("ArrowUp", (0, 1, 0)), ("ArrowDown", (0, -1, 0))],
)
def test_arrows_move_the_cursor_on_the_screen(page, key, change):
    go(page, (2, 20, 30))
    page.locator("[data-kind=soft] canvas").focus()
    page.keyboard.press(key)
    z, y, x = np.add((2, 20, 30), change)
    assert f"voxel z {z}, y {y}, x {x}" in page.inner_text("#place")


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


def test_the_class_is_found(page, straight):
    _, arrays = straight
    page.select_option("select.class", "tumour")
    settle(page)
    page.keyboard.press("f")
    page.wait_for_function(
        "() => /tumour \\(2\\)/.test(document.querySelector('[data-kind=labels] .value').textContent)"
    )
    z, y, x = map(int, re.search(r"voxel z (\d+), y (\d+), x (\d+)", page.inner_text("#place")).groups())
    assert arrays["labels"][z, y, x] == 2
    area = (arrays["labels"] == 2).sum(axis=(1, 2))
    assert area[z] == area.max()


def test_planes_cut_the_axes_that_they_name(page):
    for plane, n in (("coronal", 40), ("sagittal", 60), ("axial", 6)):
        page.select_option("#plane", plane)
        assert page.inner_text("#slice-number").endswith(f"of {n}")
    settle(page)


def test_every_voxel_around_the_cursor_can_be_drawn(page, straight):
    _, arrays = straight
    go(page, (4, 15, 15))
    page.select_option("#field", "detail")
    settle(page)
    expect_value(page, "soft", f"{arrays['soft'][2][4, 15, 15]:g}")
    page.select_option("#field", "whole")
    settle(page)


def cursor(page):
    """Return the place of the cursor in RAS mm, as the page says it."""
    text = page.inner_text("#place")
    found = re.match(r"([RL]) ([\d.]+)\s+([AP]) ([\d.]+)\s+([SI]) ([\d.]+) mm", text)
    return [float(found[i + 1]) * (1 if found[i] in "RAS" else -1) for i in (1, 3, 5)]


def test_an_oblique_case_lies_where_nibabel_says(browser, oblique):
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


def test_two_cases_are_linked_in_mm_until_they_are_not(browser, straight, oblique):
    with serving([straight[0], oblique[0]]) as address, opened(browser, address) as page:
        assert page.locator(".row").count() == 2
        go(page, (2, 20, 30), case=0)
        places = page.evaluate("softlabels.cases.map((one) => one.mm)")
        assert places[0] == places[1] == [30.0, 20.0, 6.0]
        page.uncheck("#link")
        go(page, (3, 10, 10), case=0)
        assert page.evaluate("softlabels.cases[1].mm") == [30.0, 20.0, 6.0]


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


def test_a_double_click_leaves_the_colours(page, straight):
    _, arrays = straight
    voxel = VOXELS[1]
    go(page, voxel)
    box = page.locator("[data-kind=labels] canvas").bounding_box()
    page.mouse.dblclick(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    go(page, voxel)
    page.keyboard.press("l")
    settle(page)
    np.testing.assert_allclose(
        at(page, "labels", voxel), colour("gray", (arrays["image"][voxel] + 100) / 400), atol=TOLERANCE
    )
    page.keyboard.press("l")


def test_damage_is_told_in_the_panel_and_the_others_work(browser, tmp_path):
    view, _ = make_case(tmp_path, "damaged", Grid(SHAPE, (3.0, 1.0, 1.0)))
    (shard,) = view.targets["svls"].distance.zarr_path.glob("**/c/0/0/0/0")
    content = bytearray(shard.read_bytes())
    content[60] ^= 1
    shard.chmod(0o644)
    shard.write_bytes(content)
    with serving([view]) as address, opened(browser, address) as page:
        assert "is damaged" in page.locator("[data-kind=distance] .says").inner_text()
        assert page.locator("[data-kind=soft] .says").inner_text() == ""


def test_a_phone_shows_it_without_scrolling_sideways(browser, straight):
    phone = {
        "viewport": {"width": 390, "height": 844},
        "device_scale_factor": 2,
        "is_mobile": True,
        "has_touch": True,
    }
    _, arrays = straight
    with serving([straight[0]]) as address, opened(browser, address, **phone) as page:
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert page.evaluate("softlabels.panels.length") <= 5
        canvas = page.locator("[data-kind=soft] canvas")
        canvas.scroll_into_view_if_needed()
        before = page.locator("#place").text_content()
        box = canvas.bounding_box()
        touch = page.context.new_cdp_session(page)
        finger = {"x": box["x"] + box["width"] * 0.3, "y": box["y"] + box["height"] * 0.45}
        touch.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [finger]})
        page.wait_for_function("(text) => document.querySelector('#place').textContent !== text", arg=before)
        touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
