"""Laws of the report: nothing is left out, nothing is believed, nothing else is needed."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from helpers.made_cohort import SHAPES, TARGETS, make_cohort

from softlabels.cohort.arrays import open_cohort
from softlabels.cohort.index import Index
from softlabels.pipeline.receipts import Receipt
from softlabels.training.dataset import SoftLabelDataset
from softlabels.view.histograms import value_histogram
from softlabels.view.report import cohort_figures, quality_series, report_page, write_report
from softlabels.view.summary import CaptionedFigure, summarise

SHOWN = {"geols": replace(TARGETS["geols"], node="target-2"), "onehot": TARGETS["onehot"]}
MAPS = [{"map": "T1:a", "certified": True}, {"map": "T1:b", "certified": False}]


def receipt(case, node, **changes):
    fixed = {"stage": node.partition("-")[0], "key": "0" * 64, "manifest": "0" * 64, "store": "/store"}
    return Receipt(case=case, node=node, **fixed | {"outcome": "computed", "seconds": 1.5} | changes)


@pytest.fixture
def receipts():
    return [
        receipt("b", "target-2", quality={"disagreement": 0.125, "entropy_mean": 0.2, "saturated": None}, seconds=3.0),
        receipt("a", "distance-1", quality={"maps": MAPS}, flags=["map T1:b is not certified exact"]),
        receipt("a", "prepare-0"),
        receipt("b", "prepare-0", outcome="reused", seconds=0.01),
        receipt("a", "seeds-3", quality={"classes": [{"class": "a", "fallback": True}]}),
    ]


class Outline(HTMLParser):
    """Rows of cells of every table, addresses, and whether all tags are closed."""

    def __init__(self, page):
        super().__init__()
        self.tables, self.addresses, self.open = [], [], []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.addresses += [attrs[name] for name in ("src", "href") if name in attrs]
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "td" in self.open or "th" in self.open:
            self.tables[-1][-1][-1] += data


def page_of(receipts, **changes):
    return report_page(summarise(receipts, SHOWN, **{"title": "t"} | changes))


def test_every_case_and_node_has_its_cell_in_the_order_of_the_stages(receipts):
    outline = Outline(page_of(receipts))
    assert outline.open == []
    nodes, cases = outline.tables
    order = ["prepare-0", "seeds-3", "distance-1", "target-2"]
    assert [row[0] for row in nodes[1:]] == order
    assert cases[0] == ["case", "picture", *order[:3], "target-2 (geols)", "flags"]
    rows = {row[0]: row[2:] for row in cases[1:]}
    assert rows["a"] == [
        "1.50 s",
        "1.50 s1 by fallback",
        "1.50 s1 of 2 exact",
        "missing",
        "map T1:b is not certified exact",
    ]
    assert rows["b"] == ["reused", "missing", "missing", "3.00 sdiffers 12.50%, 0.200 bits", ""]


def test_the_summary_counts_what_the_receipts_say(receipts):
    page = page_of(receipts)
    assert "2 cases, 5 results: 4 computed, 1 reused" in page
    assert "1 of 2 distance maps are certified exact" in page
    assert "1 cases carry flags" in page
    prepare = Outline(page).tables[0][1]
    assert prepare == ["prepare-0", "", "2", "1", "1", "1.50", "1.5", "0"]


def test_text_of_a_user_is_never_markup(receipts):
    evil = '<script>alert("x")</script>'
    receipts[0] = replace(receipts[0], flags=[evil])
    page = page_of(receipts, title=evil, figures=[CaptionedFigure(evil, "data:,")])
    assert page.count("<script>") == 1
    assert page.count("&lt;script&gt;alert(") == 5  # title and heading, flag, caption and its alternative text


def test_the_file_needs_nothing_beside_it_but_the_pictures(receipts, tmp_path):
    picture = tmp_path / "results" / "a" / "mon tage.png"
    path = write_report(tmp_path / "results" / "report" / "index.html", receipts, SHOWN, pictures={"a": picture})
    addresses = Outline(path.read_text()).addresses
    assert "../a/mon%20tage.png" in addresses
    assert all(address.startswith("data:image/png;base64,") for address in addresses if "../" not in address)
    assert len(addresses) == 3
    assert [found.name for found in path.parent.iterdir()] == ["index.html"]


def test_equal_receipts_in_any_order_give_an_equal_file(receipts, tmp_path):
    first = write_report(tmp_path / "a.html", receipts, SHOWN).read_bytes()
    assert write_report(tmp_path / "b.html", reversed(receipts), SHOWN).read_bytes() == first


def test_figures_that_a_method_does_not_have_are_left_out(receipts):
    series = quality_series(receipts, SHOWN)
    assert series["disagreement"] == {"geols": [0.125]}
    assert series["saturated"] == series["sum_deviation_max"] == {}


def test_without_receipts_there_is_still_a_page():
    assert "0 cases, 0 results" in page_of([])
    assert cohort_figures([], SHOWN) == []


@pytest.mark.parametrize("target", ["geols", "sing"])
def test_the_histogram_is_that_of_the_voxels_the_loader_gives(tmp_path, target):
    index = make_cohort(tmp_path, {"small": SHAPES["small"], "large": SHAPES["large"]})
    low = -1.0 if target == "sing" else 0.0
    histogram = value_histogram(open_cohort(index), target, ["small", "large"], (low, 1.0), n_bins=7)
    whole = [sample["soft_label"].numpy() for sample in SoftLabelDataset(index, target=target, mode="whole")]
    assert tuple(histogram.counts) == TARGETS[target].class_names
    for class_id, found in enumerate(histogram.counts.values()):
        values = np.concatenate([volume[class_id].ravel() for volume in whole])
        np.testing.assert_array_equal(found, np.histogram(values, histogram.edges)[0])
        assert found.sum() == values.size


def test_the_voxels_of_every_stored_target_are_drawn(tmp_path):
    path = make_cohort(tmp_path, {"small": SHAPES["small"], "empty": SHAPES["empty"]})
    index = Index.read(path)
    targets = {
        name: replace(target, node=f"target-{name}" if target.blend.needs_stored else None)
        for name, target in index.targets.items()
    }
    replace(index, targets=targets).write(path)
    captions = [figure.caption for figure in cohort_figures([], {}, open_cohort(path))]
    assert [re.match(r"\w+", caption)[0] for caption in captions] == ["geols", "sing", "svls"]
    assert all("2 of 2 cases" in caption for caption in captions)
