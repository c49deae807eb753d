"""Laws of the report: no case is left out, the worst comes first, nothing is believed, nothing else is needed."""

import json
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
from softlabels.view import histograms
from softlabels.view.flags import case_flags, worst
from softlabels.view.histograms import value_histogram
from softlabels.view.report import Provenance, Report, addresses, report_page, values_plots, write_report
from softlabels.view.summary import Problem, summarise

SHOWN = {"geols": replace(TARGETS["geols"], node="target-2"), "onehot": TARGETS["onehot"]}
MAPS = [{"map": "T1:organ", "certified": True}, {"map": "T1:tumour", "certified": False}]
CASES = {"c": "val", "a": "train", "b": "train", "d": ""}


def receipt(case, node, **changes):
    fixed = {"stage": node.partition("-")[0], "key": "0" * 64, "manifest": "0" * 64, "store": "/store"}
    return Receipt(case=case, node=node, **fixed | {"outcome": "computed", "seconds": 1.5} | changes)


QUALITY = {"disagreement": 0.125, "entropy_mean": 0.2, "saturated": None, "volume_bias": [0.01, None, -0.5]}


@pytest.fixture
def receipts():
    return [
        receipt("b", "target-2", quality=QUALITY, seconds=3.0),
        receipt("b", "distance-1", quality={"maps": MAPS[:1]}),
        receipt("b", "prepare-0", outcome="reused", seconds=0.01),
        receipt("b", "seeds-3", quality={"classes": [{"class": "organ", "fallback": False}]}),
        receipt("a", "distance-1", quality={"maps": MAPS}, flags=["map T1:tumour: not certified exact"]),
        receipt("a", "prepare-0", flags=["absent_label:1"]),
        receipt("a", "seeds-3", quality={"classes": [{"class": "organ", "fallback": True}]}),
        receipt("c", "prepare-0"),
    ]


PROBLEMS = {"c": [Problem("seeds", "class 'organ' has no seed", "logs/c/seeds.log")]}


def summary_of(receipts, **changes):
    return summarise(**{"cases": CASES, "receipts": receipts, "targets": SHOWN, "problems": PROBLEMS} | changes)


class Outline(HTMLParser):
    """Rows of cells of every table, addresses, data of the script, and whether all tags are closed."""

    def __init__(self, page):
        super().__init__()
        self.tables, self.addresses, self.open, self.text, self.data = [], [], [], "", None
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
        if tag not in ("meta", "img", "br", "input"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "td" in self.open or "th" in self.open:
            self.tables[-1][-1][-1] += data
        if self.open and self.open[-1] == "script":
            self.data = self.data or json.loads(data)
        elif "style" not in self.open:
            self.text += data


def page_of(receipts, **changes):
    return report_page(Report(**{"title": "t", "summary": summary_of(receipts)} | changes))


def test_every_case_of_the_sheet_is_there_and_the_most_urgent_first(receipts):
    cases = summary_of(receipts).cases
    assert [(case.id, case.state, case.rank) for case in cases] == [
        ("c", "failed", 0),
        ("a", "unfinished", 1),
        ("b", "complete", 4),
        ("d", "unfinished", 5),
    ]
    outline = Outline(page_of(receipts))
    assert outline.open == []
    assert [row[0] for row in outline.data["cases"]] == ["c", "a", "b", "d"]
    assert "class 'organ' has no seed log: logs/c/seeds.log" in " ".join(outline.text.split())


def test_the_figures_of_a_case_are_those_of_its_receipts(receipts):
    summary = summary_of(receipts)
    titles = [(one.target, one.title) for one in summary.measures]
    (case,) = (case for case in summary.cases if case.id == "b")
    values = dict(zip(titles, zip(case.values, case.remarks, strict=True), strict=True))
    assert values == {
        ("", "inexact maps"): (0, ""),
        ("", "seed fallbacks"): (0, ""),
        ("geols", "differs from the label"): (0.125, ""),
        ("geols", "entropy"): (0.2, ""),
        # Of the classes, the largest; at alpha .1 a tenth of that of the stored map.
        ("geols", "volume bias"): (pytest.approx(-0.05), "tumour"),
        ("", "work"): (6.0, ""),
    }
    (case,) = (case for case in summary.cases if case.id == "a")
    assert case.values[:2] == (1, 1) and case.values[2] is None


def test_the_summary_counts_what_the_receipts_say(receipts):
    text = " ".join(Outline(page_of(receipts)).text.split())
    assert "4 cases: 1 complete, 1 failed, 2 unfinished. 1 with an alarm." in text
    assert "2 of 3 distance maps are certified exact. 8 results, 1 of them reused, 12 s of work." in text
    prepare = Outline(page_of(receipts)).tables[1][1]
    assert prepare == ["prepare-0", "", "3", "2", "1", "1.50", "3.0", "1"]
    assert [row[0] for row in Outline(page_of(receipts)).tables[1][1:]] == [
        "prepare-0", "seeds-3", "distance-1", "target-2"
    ]  # fmt: skip


def test_text_of_a_user_is_never_markup(receipts):
    evil = '</script><script>alert("x")</script>'
    receipts[0] = replace(receipts[0], flags=[evil])
    provenance = Provenance(evil, evil, evil, [evil])
    problems = {"c": [Problem(evil, evil, evil)]}
    page = page_of(receipts, title=evil, provenance=provenance, summary=summary_of(receipts, problems=problems))
    assert page.count("<script") == 2 and page.count("</script>") == 2
    outline = Outline(page)
    assert [evil in json.dumps(row, ensure_ascii=False).replace('\\"', '"') for row in outline.data["cases"]] == [
        True, False, True, False
    ]  # fmt: skip


def test_the_file_needs_nothing_beside_it_but_the_pictures(receipts, tmp_path):
    results = tmp_path / "results"
    for case, name in (("a", "montage.png"), ("a", "thumbnail.png"), ("b", "montage.png")):
        (results / case).mkdir(parents=True, exist_ok=True)
        (results / case / name).touch()
    links = {
        kind: addresses(results / "report", results, CASES, f"{name}.png")
        for kind, name in (("pictures", "montage"), ("thumbnails", "thumbnail"))
    }
    page = page_of(receipts, **links)
    path = write_report(results / "report" / "index.html", Report("t", summary_of(receipts), **links))
    assert path.read_text() == page and [found.name for found in path.parent.iterdir()] == ["index.html"]
    rows = {row[0]: row[-2:] for row in Outline(page).data["cases"]}
    assert rows["a"] == ["../a/montage.png", "../a/thumbnail.png"]
    assert rows["b"] == ["../b/montage.png", ""] and rows["d"] == ["", ""]
    assert set(Outline(page).addresses) == {"#cases"}
    assert not re.search(r"https?://", page)


def test_equal_receipts_in_any_order_give_an_equal_page(receipts):
    assert page_of(receipts) == page_of(receipts[::-1])


def test_without_receipts_there_is_still_a_page():
    page = report_page(Report("t", summarise({}, [], SHOWN)))
    assert "<b>0</b> cases" in page and Outline(page).data["cases"] == []


def test_five_thousand_cases_take_little_room(receipts):
    many = [replace(one, case=f"case_{i:05d}") for i in range(1250) for one in receipts[:4]]
    cases = {f"case_{i:05d}": "train" for i in range(5000)}
    page = report_page(Report("t", summary_of(many, cases=cases, problems={})))
    assert len(page) < 1_000_000


# Flags.


def test_one_cause_is_one_flag_and_the_worst_comes_first():
    found = case_flags(
        [
            "absent_label:2",
            "absent_label:2@rater:1",
            "class 'tumour' absent",
            "class 'tumour' absent: -1 everywhere",
            "class tumour: none, where skeleton left none",
            "class organ: centre, where erosion left none",
            "lost_label:1",
            "constant_image:T1",
            "something of a plug-in",
        ],
        {1: "organ", 2: "tumour"},
    )
    assert [tuple(flag) for flag in found] == [
        ("alarm", "class organ was lost in resampling"),
        ("warning", "channel T1 is constant"),
        ("warning", "something of a plug-in"),
        ("note", "class organ: seeds by centre, because erosion left none"),
        ("note", "class tumour does not occur"),
    ]
    assert worst(found) == "alarm" and worst([]) is None


# Distributions.


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


def test_of_a_large_case_a_regular_sample_of_voxels_is_counted(tmp_path, monkeypatch):
    index = make_cohort(tmp_path, {"small": SHAPES["small"], "large": SHAPES["large"]})
    monkeypatch.setattr(histograms, "MAX_VOXELS", 20 * 70 * 33 // 3)
    found = value_histogram(open_cohort(index), "geols", ["large", "small"], (0.0, 1.0), n_bins=7)
    small, large = (sample["soft_label"].numpy() for sample in SoftLabelDataset(index, target="geols", mode="whole"))
    for class_id, counts in enumerate(found.counts.values()):
        of_sample = 4 * np.histogram(large[class_id, :, ::2, ::2], found.edges)[0]
        np.testing.assert_array_equal(counts, of_sample + np.histogram(small[class_id], found.edges)[0])


def test_the_voxels_of_every_stored_target_are_drawn(tmp_path, receipts):
    path = make_cohort(tmp_path, {"small": SHAPES["small"], "empty": SHAPES["empty"]})
    index = Index.read(path)
    targets = {
        name: replace(target, node=f"target-{name}" if target.blend.needs_stored else None)
        for name, target in index.targets.items()
    }
    replace(index, targets=targets).write(path)
    plots = values_plots([], targets, open_cohort(path))
    stored = [name for name, target in targets.items() if target.node]
    assert [plot.target for plot in plots] == stored and {"geols", "sing", "svls"} <= set(stored)
    assert all("2 of 2 cases" in plot.caption for plot in plots)
    for plot in plots:
        assert [curve.name for curve in plot.curves] == list(targets[plot.target].class_names)
        numbers = [float(n) for curve in plot.curves for n in re.findall(r"[\d.]+", curve.path)]
        assert min(numbers) >= 0 and max(numbers) <= 320
    # A class has one colour in all plots.
    colours = {(curve.name, curve.colour) for plot in plots for curve in plot.curves}
    assert len({name for name, _ in colours}) == len(colours)
    assert Outline(page_of(receipts, plots=plots)).open == []
