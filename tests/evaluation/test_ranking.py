"""The ranking over cases: means, intervals and reliability by hand; the command, its files and its page."""

import re
from contextlib import chdir
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import yaml
from helpers.made_truth import run, write_coarse_project

from softlabels.config import load_config
from softlabels.errors import InputError
from softlabels.evaluation.rank import rank
from softlabels.evaluation.ranking import combined
from softlabels.evaluation.table import cases_table, means_table
from softlabels.inputs.sheet import read_sheet
from softlabels.pipeline.job import run_job
from softlabels.pipeline.plan import make_plan
from softlabels.pipeline.stages import Job
from softlabels.store import Store

TARGETS = {
    "narrow": {"method": "gaussian", "sigma_mm": 0.3},
    "wide": {"method": "gaussian", "sigma_mm": 0.6},
    "unmixed": {"method": "unmix", "sigma_mm": 0.5},
    "far": {"method": "level_set"},
}


def column(*voxels):
    """Return a map (C, 1, 1, n) of one probability of class 1 per voxel."""
    inside = np.float32(voxels)
    return np.stack([1 - inside, inside])[:, None, None]


def two_cases():
    """Return the scores of two cases of different size, by case."""
    first = rank({"one-hot": column(0, 1), "soft": column(0.2, 0.8)}, column(0.4, 0.6))
    second = rank({"soft": column(0.1, 0.1, 0.9, 1), "one-hot": column(0, 0, 1, 1)}, column(0.1, 0.3, 0.9, 1))
    return {"a": first, "b": second}


def test_cases_count_alike_whatever_their_size():
    soft, hard = combined(two_cases()).candidates
    assert (soft.name, hard.name) == ("soft", "one-hot")
    assert soft.everywhere.brier == pytest.approx((2 * 0.04 + 2 * 0.04 / 4) / 2, rel=1e-5)
    assert hard.everywhere.brier == pytest.approx((2 * 0.16 + 2 * (0.01 + 0.09 + 0.01) / 4) / 2, rel=1e-5)
    assert soft.everywhere.n_voxels == 6 and soft.ambiguous.n_voxels == 2 + 3
    assert soft.change.mean == pytest.approx(soft.everywhere.brier / hard.everywhere.brier - 1)
    assert soft.change.low <= soft.change.mean <= soft.change.high < 0 and soft.change.n_better == 2
    assert hard.change.mean == hard.change.low == hard.change.high == 0


def test_a_case_without_ambiguous_voxels_is_left_out_of_that_mean_alone():
    cases = two_cases() | {"c": rank({"one-hot": column(0, 1), "soft": column(0.1, 0.9)}, column(0, 1))}
    (soft,) = [one for one in combined(cases).candidates if one.name == "soft"]
    two = combined(two_cases())
    (before,) = [one for one in two.candidates if one.name == "soft"]
    assert soft.ambiguous == before.ambiguous and soft.everywhere != before.everywhere


def test_reliability_is_pooled_over_all_values():
    truth = {"a": column(0.4, 0.6), "b": column(0.1, 0.3, 0.9, 1)}
    soft = {"a": column(0.22, 0.82), "b": column(0.12, 0.12, 0.92, 0.97)}
    (pooled,) = combined({case: rank({"soft": soft[case]}, truth[case]) for case in truth}).candidates
    q, r = (np.concatenate([one[case][:, 0, 0] for case in truth], axis=1) for one in (soft, truth))
    is_ambiguous = ((r > 0.05) & (r < 0.95)).any(axis=0)
    q, r = q[:, is_ambiguous].ravel(), r[:, is_ambiguous].ravel()
    for place in range(20):
        inside = (q * 20).astype(int) == place
        if inside.any():
            assert pooled.forecast[place] == pytest.approx(q[inside].mean(), rel=1e-5)
            assert pooled.observed[place] == pytest.approx(r[inside].mean(), rel=1e-5)
        else:
            assert np.isnan(pooled.forecast[place])
        assert pooled.share[place] == pytest.approx(inside.mean())


def test_only_what_every_case_has_is_combined():
    cases = two_cases()
    cases["b"] = [one for one in cases["b"] if one.name == "soft"]
    (soft,) = combined(cases).candidates
    assert soft.name == "soft" and soft.change is None
    with pytest.raises(InputError, match="no target can be judged on every case"):
        combined({"a": cases["a"][:1], "b": []})
    with pytest.raises(InputError, match="got no case"):
        combined({})


def test_tables_have_one_width_and_the_parts_sum():
    ranking = combined(two_cases())
    for text, n_rows in ((means_table(ranking), 6), (cases_table(ranking), 12)):
        head, *rows = [line.split("\t") for line in text.splitlines()]
        assert len(rows) == n_rows and {len(row) for row in rows} == {len(head)}
        for row in rows:
            named = dict(zip(head, row, strict=True))
            parts = float(named["brier_calibration"]) + float(named["brier_refinement"])
            assert parts == pytest.approx(float(named["brier"]), abs=2e-6)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project of coarse cases whose targets are computed; tests must not change it."""
    folder = write_coarse_project(tmp_path_factory.mktemp("ranked"), 3, targets=TARGETS)
    with chdir(folder):
        config = load_config("config.yaml")
        plan, store = make_plan(config), Store(config.store)
        for case in read_sheet(config.cases, config.channels):
            for node in plan.nodes.values():
                run_job(Job(case, node, store, Path(config.results)))
    return folder


class Page(HTMLParser):
    """Collects what a page loads, its headings and the cells of its tables."""

    def __init__(self, text):
        super().__init__()
        self.sources, self.cells, self.open = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.sources += [value for name, value in attributes if name in ("src", "href")]
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "td":
            self.cells.append(data)


def test_command_ranks_every_case_of_the_sheet_into_one_page(project, monkeypatch, capsys):
    monkeypatch.chdir(project)
    run("rank")
    printed = capsys.readouterr().out
    assert "not ranked: far: a distance is no probability" in printed
    html = Path("results/rank/rank.html").read_text()
    page = Page(html)
    assert page.open == [] and len(page.sources) == 4 and all(s.startswith("data:image/png") for s in page.sources)
    assert not re.findall(r"https?://", html) and "too narrow" in html
    assert page.cells.index("unmixed") < page.cells.index("wide") < page.cells.index("one-hot")
    head, *rows = [line.split("\t") for line in Path("results/rank/rank.tsv").read_text().splitlines()]
    of_all = {row[0]: dict(zip(head, row, strict=True)) for row in rows if row[1] == "all"}
    assert float(of_all["unmixed"]["high"]) < 0 and of_all["unmixed"]["n_better"] == "3"
    assert float(of_all["unmixed"]["brier"]) == min(float(row["brier"]) for row in of_all.values())
    assert Path("results/rank/rank.png").read_bytes()[:4] == b"\x89PNG"


def test_one_case_with_its_own_maps_has_no_interval(project, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(project)
    (case, *_) = read_sheet("cases.tsv", ["T1"])
    run("rank", case.id, case.reference[0], "--output", str(tmp_path / "out"))
    assert "[" not in capsys.readouterr().out.split("not ranked")[0]
    rows = [line.split("\t") for line in (tmp_path / "out" / "rank.tsv").read_text().splitlines()]
    (row,) = [dict(zip(rows[0], row, strict=True)) for row in rows if row[:2] == ["unmixed", "all"]]
    assert row["low"] == row["high"] == "nan" and row["n_cases"] == "1"
    assert "One case has none" in (tmp_path / "out" / "rank.html").read_text()
    run("rank", case.id, "--output", str(tmp_path / "same"))
    assert (tmp_path / "same" / "rank.tsv").read_text() == (tmp_path / "out" / "rank.tsv").read_text()


def test_what_cannot_be_ranked_is_said(project, tmp_path, monkeypatch):
    lines = (project / "cases.tsv").read_text().splitlines()
    monkeypatch.chdir(project)
    (tmp_path / "cases.tsv").write_text("\n".join([lines[0], lines[1].rsplit("\t", 1)[0] + "\t"]) + "\n")
    config = yaml.safe_load(Path("config.yaml").read_text()) | {"cases": str(tmp_path / "cases.tsv")}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    with pytest.raises(InputError, match="has a reference. Add a column 'reference'"):
        run("rank", "--config", str(tmp_path / "config.yaml"))
    with pytest.raises(InputError, match="case case0: no reference in the case sheet"):
        run("rank", "case0", "--config", str(tmp_path / "config.yaml"))
    with pytest.raises(InputError, match="case 'case7': not in"):
        run("rank", "case7")
