"""The pictures of docs/looking.md, of real volumes: `SOFTLABELS_SCREENSHOTS=docs make test-browser` renews them."""

import io
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import yaml
from helpers import ROOT
from PIL import Image

from .conftest import opened

DESKTOP = {"width": 1500, "height": 850}
PHONE = {"width": 390, "height": 844}
#: Of the project's folder, as the report's title has it.
NAME = "glioma_study"


def softlabels(folder, *arguments, status=0):
    done = subprocess.run(
        [sys.executable, "-m", "softlabels", *arguments],
        cwd=folder, capture_output=True, text=True, timeout=900, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == status, done.stdout[-2000:] + done.stderr[-2000:]


def screenshot(page, name):
    """Return what a page shows, (h, w, 3); keep it under this name where the environment says."""
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    if folder := os.environ.get("SOFTLABELS_SCREENSHOTS"):
        picture.save(ROOT / folder / name, optimize=True)
    return np.asarray(picture)


def project(folder, files, **changes):
    """Write a project of image and label files, with changes of its configuration, and run it."""
    for case, paths in files.items():
        (folder / "data" / case).mkdir(parents=True)
        for name, path in paths.items():
            shutil.copy(path, folder / "data" / case / f"{name}.nii.gz")
    softlabels(folder, "init", NAME, "--pairs", "data/{case}/{channel}.nii.gz", "data/{case}/label.nii.gz")
    path = folder / NAME / "config.yaml"
    config = yaml.safe_load(path.read_text()) | changes
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return folder / NAME


CROPPED = {"normalise": "zscore", "clip_percentiles": [0.5, 99.5], "crop": "labels", "crop_margin_mm": 20}


@pytest.fixture(scope="module")
def glioma(shared_data, tmp_path_factory):
    """A project after a run: a glioma with the labels of two algorithms, and a case whose image is truncated."""
    folder, source = tmp_path_factory.mktemp("glioma"), shared_data / "glioma_du7294"
    labels = {"du7294_fusion": "fusion_mav", "du7294_isen": "isen-20", "du7294_cut": "fusion_mav"}
    files = {
        case: {"t1c": source / "t1c.nii.gz", "flair": source / "fla.nii.gz", "label": source / f"label_{name}.nii.gz"}
        for case, name in labels.items()
    }
    made = project(folder, files, prepare=CROPPED, labels={"background": 0, "core": 1, "edema": 2})
    broken = folder / "data" / "du7294_cut" / "t1c.nii.gz"
    broken.write_bytes(broken.read_bytes()[:20_000])
    softlabels(made, "run", "--cores", "2", status=1)
    return made


def page_of(project, case, *options):
    """Write the page of a case and return its address."""
    softlabels(project, "view", case, "--html", f"{case}.html", *options)
    return (project / f"{case}.html").as_uri()


@pytest.mark.parametrize(("size", "name"), [(DESKTOP, "view.png"), (PHONE, "view-phone.png")])
def test_the_viewer_shows_a_glioma(browser, glioma, size, name):
    options = {"viewport": size, "has_touch": size is PHONE, "is_mobile": size is PHONE}
    with opened(browser, page_of(glioma, "du7294_fusion"), **options) as page:
        picture = screenshot(page, name)
        assert page.faults == [] and picture.std() > 20
        cut = "[...document.querySelectorAll('.panel .value')].filter(v => v.scrollWidth > v.clientWidth)"
        assert page.evaluate(f"{cut}.map(v => v.textContent)") == []


@pytest.mark.parametrize(("size", "name"), [(DESKTOP, "report.png"), (PHONE, "report-phone.png")])
def test_the_report_names_the_failed_case_first(browser, glioma, size, name):
    page = browser.new_page(viewport=size)
    page.goto((glioma / "results" / "report" / "index.html").as_uri())
    page.wait_for_function("document.querySelectorAll('#table img').length === 2")
    page.wait_for_function("[...document.querySelectorAll('#table img')].every(image => image.complete)")
    assert page.inner_text("#failed a") == "du7294_cut"
    assert page.get_attribute("#table tbody tr", "data-case") == "du7294_cut"
    # Where the test happens to run says nothing to a reader.
    page.evaluate(
        """here => {
          const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
          while (walk.nextNode()) walk.currentNode.data = walk.currentNode.data.replaceAll(here, "/data");
        }""",
        str(glioma.parent / "data"),
    )
    screenshot(page, name)
    page.close()


def test_a_ct_with_41_organs_has_a_colour_for_each(browser, shared_data, tmp_path):
    source = shared_data / "ct_organs_small"
    targets = {"geols": {"method": "geols", "alpha": 0.3}}
    made = project(tmp_path, {"ct": {"ct": source / "ct.nii.gz", "label": source / "label.nii.gz"}}, targets=targets)
    softlabels(made, "run", "--cores", "2")
    with opened(browser, page_of(made, "ct"), viewport={"width": 1500, "height": 560}) as page:
        picture = screenshot(page, "view-organs.png").reshape(-1, 3).astype(int)
        colourful = picture[(picture.max(-1) - picture.min(-1)) > 60] // 32
        assert page.faults == [] and len(np.unique(colourful, axis=0)) > 20
    page = browser.new_page(viewport=DESKTOP)
    page.goto((made / "results" / "report" / "index.html").as_uri())
    page.wait_for_selector("#values svg")
    assert page.locator("#values path:not(.axis)").count() == 42
    page.close()
