"""The report in a real browser: sorting, search, filters, dots that lead to cases, a phone, and thousands of cases."""

from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
from helpers.made_cohort import TARGETS
from PIL import Image

from softlabels.pipeline.receipts import Receipt
from softlabels.view.report import Provenance, Report, write_report
from softlabels.view.summary import Problem, summarise

SHOWN = {"geols": replace(TARGETS["geols"], node="target-2")}
N_CASES = 300
#: A page of this many pixels is a phone.
PHONE = {"width": 390, "height": 800}


def receipts_of(case, number):
    """Return the receipts of a case whose disagreement grows with its number."""
    fixed = {"key": "0" * 64, "manifest": "0" * 64, "store": "/store", "outcome": "computed", "seconds": 1.0}
    flags = ["map T1:organ: not certified exact"] * (number == 7) + ["absent_label:1"] * (number % 10 == 0)
    quality = {"disagreement": number / 10_000, "entropy_mean": 0.1, "volume_bias": [0.0, -0.01 * (number % 50), None]}
    yield Receipt(case=case, node="prepare-0", stage="prepare", flags=flags, **fixed)
    yield Receipt(case=case, node="target-2", stage="target", quality=quality, **fixed)


def write(folder, n_cases, **more):
    """Write the report of a made cohort and return its address."""
    cases = {f"case_{number:04d}": "train" if number % 3 else "val" for number in range(n_cases)}
    receipts = [one for number, case in enumerate(cases) if number != 5 for one in receipts_of(case, number)]
    problems = {"case_0005": [Problem("prepare", "case case_0005: truncated <b>file</b>", "logs/case_0005.log")]}
    summary = summarise(cases, receipts, SHOWN, problems)
    return write_report(folder / "report" / "index.html", Report("Cohort", summary, **more)).as_uri()


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    Image.fromarray(np.full((20, 30, 3), 90, np.uint8)).save(folder / "thumbnail.png")
    thumbnails = {f"case_{number:04d}": "../thumbnail.png" for number in range(N_CASES - 1)}
    return write(folder, N_CASES, thumbnails=thumbnails, provenance=Provenance("today", "1", "a: 1", ["Told."]))


@contextmanager
def page_at(browser, address, **options):
    """Open a report, and give its page; any error of its script fails the test."""
    context = browser.new_context(**({"viewport": {"width": 1400, "height": 900}} | options))
    try:
        page, faults = context.new_page(), []
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(address)
        page.wait_for_selector("#table tbody tr")
        yield page
        assert faults == []
    finally:
        context.close()


def shown(page):
    """Return the cases in the table, in their order."""
    return page.eval_on_selector_all("#table tbody tr", "rows => rows.map(row => row.dataset.case)")


def test_the_most_urgent_cases_come_first_and_more_are_shown_on_demand(browser, address):
    with page_at(browser, address) as page:
        found = shown(page)
        assert found[:3] == ["case_0005", "case_0007", "case_0000"] and len(found) == 50
        assert "truncated <b>file</b>" in page.inner_text("#failed")
        assert "not certified exact" in page.inner_text("tr[data-case=case_0007] td.flags")
        page.click("#more")
        assert len(shown(page)) == 250


def test_cases_are_searched_filtered_and_sorted(browser, address):
    with page_at(browser, address) as page:
        page.fill("#search", "0029")
        assert set(shown(page)) == {"case_0029"}
        page.fill("#search", "")
        page.select_option("#filter", label="with alarms (1)")
        assert shown(page) == ["case_0007"] and page.inner_text("#count") == "1 of 300 cases"
        page.select_option("#filter", label="split val (100)")
        page.select_option("#sort", label="geols: differs from the label")
        assert shown(page)[:2] == ["case_0297", "case_0294"]
        page.click("#table th:has-text('volume bias')")
        assert shown(page)[0].endswith(("49", "99"))
        page.click("#table th:has-text('volume bias')")
        # The other way round, cases without a figure come first.
        assert shown(page)[0] != "case_0299"


def test_a_dot_leads_to_its_case_and_tells_its_value(browser, address):
    with page_at(browser, address) as page:
        canvas = page.locator(".strip", has_text="differs from the label").locator("canvas")
        canvas.scroll_into_view_if_needed()
        box = canvas.bounding_box()
        x, y = box["x"] + box["width"] - 10, box["y"] + 17 + 5 * np.sin(2.4 * 299)
        page.mouse.move(x, y)
        assert page.inner_text("#tip").startswith("case_0299: 2.99 %")
        page.mouse.click(x, y)
        assert page.get_attribute("tr.selected", "data-case") == "case_0299"
        assert page.locator("tr.selected").is_visible()


def test_a_failed_case_is_linked_to_its_row(browser, address):
    with page_at(browser, address) as page:
        page.click("#failed a")
        assert page.get_attribute("tr.selected", "data-case") == "case_0005"


def test_thumbnails_are_loaded_lazily_and_a_missing_one_leaves_no_broken_picture(browser, address):
    with page_at(browser, address) as page:
        images = page.locator("#table img")
        assert images.count() == 50 and images.first.get_attribute("loading") == "lazy"
        page.fill("#search", "case_0299")
        assert page.locator("#table img").count() == 0


@pytest.mark.parametrize("size", [PHONE, {"width": 1400, "height": 900}])
def test_nothing_is_wider_than_the_screen(browser, address, size):
    with page_at(browser, address, viewport=size) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]


def test_all_cases_are_printed(browser, address):
    with page_at(browser, address) as page:
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        page.emulate_media(media="print")
        assert len(shown(page)) == N_CASES and not page.locator("#controls").is_visible()


def test_five_thousand_cases_open_and_sort(browser, tmp_path, record_property):
    address = write(tmp_path, 5000)
    with page_at(browser, address) as page:
        assert len(shown(page)) == 50
        page.select_option("#sort", label="geols: differs from the label")
        assert shown(page)[0] == "case_4999"
        timing = page.evaluate("performance.getEntriesByType('navigation')[0].toJSON()")
        record_property("load_ms", timing["loadEventEnd"])
        print(f"5000 cases: {(tmp_path / 'report/index.html').stat().st_size} bytes, {timing['loadEventEnd']:.0f} ms")
