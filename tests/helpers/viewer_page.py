"""What a page of the viewer shows of a case of `made_view`, as a person would see it."""

import io
import re

import numpy as np
from matplotlib import colormaps
from matplotlib.image import imread

from helpers.made_view import SHAPE

#: NiiVue's colour table has 256 entries, filled from 17 colours; the screen rounds once more.
TOLERANCE = 10


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


def cursor(page):
    """Return the place of the cursor in RAS mm, as the page says it."""
    text = page.inner_text("#place")
    found = re.match(r"([RL]) ([\d.]+)\s+([AP]) ([\d.]+)\s+([SI]) ([\d.]+) mm", text)
    return [float(found[i + 1]) * (1 if found[i] in "RAS" else -1) for i in (1, 3, 5)]
