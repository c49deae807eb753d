"""The viewer in a real browser: what keys, sliders, pointers and fingers do."""

import re

import numpy as np
import pytest
from helpers.made_view import VOXELS
from helpers.viewer_page import TOLERANCE, at, colour, expect_value, go, settle

from .conftest import opened, serving


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
    page.select_option("select.class", "organ")
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


def test_two_cases_are_linked_in_mm_until_they_are_not(browser, straight, oblique):
    with serving([straight[0], oblique[0]]) as address, opened(browser, address) as page:
        assert page.locator(".row").count() == 2
        go(page, (2, 20, 30), case=0)
        places = page.evaluate("softlabels.cases.map((one) => one.mm)")
        assert places[0] == places[1] == [30.0, 20.0, 6.0]
        page.uncheck("#link")
        go(page, (3, 10, 10), case=0)
        assert page.evaluate("softlabels.cases[1].mm") == [30.0, 20.0, 6.0]


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
