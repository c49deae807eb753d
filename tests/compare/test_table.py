"""From networks to the table: scores of all rows, changes from the baseline, and what is said of them."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from comparison import __main__ as steps
from comparison.judging import Predictor, changed_probabilities, prediction_of, read_scores, truth_of, write_scores
from comparison.picture import comparison_picture
from comparison.scores import METRICS
from comparison.study import AfterRow, canonical, parse_study
from comparison.table import check_pairing, compare, every_number, markdown
from comparison.training import Run, load
from comparison.truth import PreparedTruth
from helpers import made_study
from scipy.ndimage import gaussian_filter

from softlabels.classes import LabelSet
from softlabels.errors import InputError
from softlabels.evaluation.refine import refine

LENGTHS = [10, 20]
STUDY = {**made_study.STUDY, "training": {"steps": LENGTHS}}


@pytest.fixture
def study():
    return parse_study({**STUDY, "seeds": [0, 1, 2], "note": "Made up.", "bootstrap": {"draws": 500}})


def line(row, steps, seed, person, **scores):
    known = {
        "fold": person % 2,
        "case": f"case{person}",
        "person": f"p{person}",
        "init": f"i{seed}",
        "batches": f"b{seed}",
    }
    return {"row": row, "steps": steps, "seed": seed, **known, **scores}


def made_lines(effect):
    """Return lines of a study whose rows differ from the baseline by given relative changes of the Brier score."""
    rng = np.random.default_rng(0)
    lines = []
    rows = ["hard", "soft", "truth", "later"]
    for row, length, seed, person in itertools.product(rows, LENGTHS, range(3), range(8)):
        base = 0.04 + 0.01 * person + 0.002 * seed
        brier = base * (1 + effect.get((row, length), 0.0)) + 1e-4 * rng.normal()
        scores = {"brier_truth": brier, "dice": 0.9 - 0.01 * person, "volume_bias": 0.02}
        own = {"label_brier": 0.03} if row != "later" else {"temperature": 1.5}
        lines.append(line(row, length, seed, person, **scores, **own))
    return lines


@pytest.fixture
def scored(tmp_path):
    """Give a function that writes lines and reads them back."""

    def through_file(lines):
        write_scores(lines, tmp_path / "scores.tsv")
        return read_scores([tmp_path / "scores.tsv"])

    return through_file


def test_a_change_is_found_with_its_interval_and_wins(study, scored):
    effect = {("soft", 10): -0.1, ("soft", 20): -0.1, ("truth", 20): 0.2, ("truth", 10): 0.2}
    cells = compare(scored(made_lines(effect)), study)
    soft, truth = (cells[row, 20, "brier_truth"].change for row in ("soft", "truth"))
    assert soft.mean == pytest.approx(-0.1, abs=2e-3) and soft.is_sure and (soft.wins, soft.n_persons) == (8, 8)
    assert truth.mean == pytest.approx(0.2, abs=2e-3) and truth.wins == 0
    assert cells["hard", 20, "brier_truth"].change is None
    assert all(cell.is_converged for cell in cells.values())


def test_lengths_that_disagree_are_said_to_be_not_converged(study, scored):
    lines = scored(made_lines({("soft", 10): 0.1, ("soft", 20): -0.1}))
    cells = compare(lines, study)
    assert not cells["soft", 20, "brier_truth"].is_converged and cells["truth", 20, "brier_truth"].is_converged
    page = markdown(cells, lines, study)
    (row,) = [text for text in page.splitlines() if text.startswith("| soft ")]
    assert "−10.0 %" in row and row.count("†") == 1
    assert "not converged: after 10 steps" in page and "; 1 cell here" in page


def test_the_page_says_what_was_done(study, scored):
    lines = scored(made_lines({}))
    page = markdown(compare(lines, study), lines, study)
    assert "8 persons (8 cases)" in page and "Made up." in page and "Early stopping: none" in page
    header, _, *rows = [text for text in page.splitlines() if text.startswith("|")]
    assert len(rows) == 4 and header.count("|") == rows[0].count("|") and "| hard | 0.0300 |" in rows[0]


def test_the_page_of_a_study_that_stops_early_claims_no_more_than_was_checked(scored):
    rule = {"steps": LENGTHS, "early_stopping": {"every": 5, "patience": 2}}
    study, lines = parse_study({**STUDY, "training": rule}), scored(made_lines({}))
    page = markdown(compare(lines, study), lines, study)
    assert "trained for at most 20 steps" in page and "the same batches, up to step 5, which was checked" in page
    assert "Early stopping: the best of every 5 steps, patience 2." in page


def test_every_number_has_every_cell(study, scored):
    cells = compare(scored(made_lines({})), study)
    header, *rows = every_number(cells, study).splitlines()
    assert len(rows) == len(cells) == 4 * len(LENGTHS) * 3
    assert {len(row.split("\t")) for row in [header, *rows]} == {11}


def test_rows_that_saw_other_batches_are_refused(scored):
    lines = scored(made_lines({}))
    lines[-1]["batches"] = "another"
    with pytest.raises(InputError, match="are not paired: batches of seed 2"):
        check_pairing(lines)


def test_the_picture_has_a_panel_for_every_score_that_is_known(study, scored):
    figure = comparison_picture(compare(scored(made_lines({})), study), study)
    titles = [ax.get_title() for ax in figure.axes if ax.get_visible()]
    assert titles == ["Brier, truth, %", "Dice, points", "volume, hard, points"]


def test_scores_survive_their_file(scored):
    rng = np.random.default_rng(1)
    known = line("soft", 10, 0, 1, **{name: float(rng.normal()) for name in METRICS})
    (found,) = scored([known])
    assert all(found[name] == pytest.approx(known[name], rel=1e-6) for name in METRICS)
    assert np.isnan(found["temperature"]) and found["seed"] == 0


def test_from_runs_to_the_page(run, tmp_path, monkeypatch):
    """All steps, as the rules call them: two trained rows, three that change probabilities, one seed, one fold."""
    rows = {
        "hard": {"target": "onehot"},
        "signed": {"target": "soft"},
        "tempered": {"after": "hard", "temperature": "fitted"},
        "unmixed": {"after": "hard", "unmix": {"rho": 2.0}},
        "both": {"after": "hard", "temperature": 1.5, "unmix": {"window_mm": 2.0}},
    }
    study = parse_study({**STUDY, "rows": rows, "seeds": [0], "bootstrap": {"draws": 200}})

    def step(*words):
        monkeypatch.setattr("sys.argv", ["comparison", *map(str, words)])
        steps.main()

    scores = []
    for row, target in (("hard", "onehot"), ("signed", "signed")):
        network, after = tmp_path / f"{row}.pt", study.after(row)
        step("train", "--run", canonical(run(target).to_json()), "--output", network)
        after_json = canonical({name: one.model_dump(mode="json") for name, one in after.items()})
        scores.append(tmp_path / f"{row}.tsv")
        options = ("--row", row, "--after", after_json, "--fold", 0, "--test", "b", "d")
        step("score", network, *options, "--output", scores[-1])
    study_json = canonical(study.model_dump(mode="json"))
    step("table", *scores, "--study", study_json, "--output", tmp_path / "comparison.md")
    lines = read_scores(scores)
    assert {found["row"] for found in lines} == set(rows) and {found["person"] for found in lines} == {"ab", "d"}
    fitted = {found["temperature"] for found in lines if found["row"] == "tempered"}
    assert len(fitted) == 1 and fitted.pop() == pytest.approx(temperature_of(tmp_path / "hard.pt"), rel=0.01)
    own = {(found["row"], found["case"]): found["label_brier"] for found in lines if found["row"] in ("hard", "signed")}
    assert own["signed", "d"] == pytest.approx(brier_of_signed_map(run("signed"), "d"), rel=1e-5)
    assert own["hard", "d"] == pytest.approx(brier_of_hard_label(run("onehot"), "d"), rel=1e-5)
    brier = {found["row"]: found["brier_truth"] for found in lines if found["case"] == "d"}
    assert len({brier[row] for row in ("hard", "signed", "tempered", "both")}) == 4
    page = (tmp_path / "comparison.md").read_text()
    shown = [text.split("|")[1].strip() for text in page.splitlines() if text.startswith("|")]
    assert shown[2:] == list(rows)
    assert "2 persons (2 cases)" in page and (tmp_path / "comparison.png").stat().st_size > 10_000


def temperature_of(path):
    """Return the best temperature of a network on its validation cases, without voxels of the ignore label."""
    content = load(path)
    run = Run(**content["run"])
    truth = truth_of(run)
    predict = prediction_of(run, content, truth)
    pairs = []
    for case in run.validation:
        valid = truth.case(case).labels() != run.classes.ignore
        assert not valid.all()
        pairs.append((predict(case)[:, valid], truth.reference(case)[:, valid]))
    return made_study.best_temperature(pairs)


def test_a_temperature_is_fitted_without_voxels_that_do_not_count(run):
    rng = np.random.default_rng(0)
    truth = rng.dirichlet([1, 1, 1], (4, 6, 5)).transpose(3, 0, 1, 2).astype(np.float32)
    network = truth**3 / (truth**3).sum(axis=0)
    counted = rng.random(truth.shape[1:]) < 0.5
    network[:, ~counted] = network[:, ~counted][::-1]
    known = {"has_reference": lambda _: True, "reference": lambda _: truth, "counted": lambda *_: counted}
    found = Predictor(run(), SimpleNamespace(**known), lambda _: network).temperature(
        AfterRow(after="x", temperature="fitted")
    )
    expected, other = (
        made_study.best_temperature([(network[:, part], truth[:, part])]) for part in (counted, counted | True)
    )
    assert found == pytest.approx(expected, rel=0.01) and abs(other / expected - 1) > 0.2


def brier_of(probabilities, truth, case):
    """Return the Brier score over the voxels that are not ignored."""
    valid = truth.case(case).labels() != truth.classes.ignore
    return ((probabilities - truth.reference(case)) ** 2).sum(axis=0)[valid].mean()


def brier_of_signed_map(run, case):
    truth = truth_of(run)
    shares = (1 + truth.target(case, "signed").soft_label()) / 2
    probabilities = np.concatenate([1 - shares.max(axis=0, keepdims=True), shares])
    return brier_of(probabilities / probabilities.sum(axis=0), truth, case)


def brier_of_hard_label(run, case):
    truth = truth_of(run)
    return brier_of(truth.masks(case), truth, case)


def test_rows_after_training_are_those_of_refine(cohort):
    index, sheet = cohort
    truth = PreparedTruth(str(index), str(sheet), ["T1", "T2"], LabelSet.parse(STUDY["softlabels"]["labels"]))
    prepared = truth.case("a")
    blurred = np.stack([gaussian_filter(mask.astype(np.float32), 1) for mask in truth.masks("a")]) + np.float32(1e-3)
    probabilities = blurred / blurred.sum(axis=0)
    after = {"tempered": AfterRow(after="x", temperature=2.0), "both": AfterRow(after="x", unmix={"window_mm": 3.0})}
    found = dict(changed_probabilities(probabilities, "x", after, {"tempered": 2.0, "both": 0.5}, truth, "a"))
    assert list(found) == ["x", "tempered", "both"] and found["x"] is probabilities
    root = np.sqrt(probabilities)
    np.testing.assert_allclose(found["tempered"], root / root.sum(axis=0), atol=1e-5)
    refined = refine(prepared.image(), probabilities, prepared.grid.spacing, window_mm=3.0, rho=3.0, temperature=0.5)
    np.testing.assert_array_equal(found["both"], refined)
    squared = probabilities**2
    assert np.abs(refined - squared / squared.sum(axis=0)).max() > 0.01


def test_a_mistake_ends_with_one_line(run, tmp_path, monkeypatch):
    wrong = canonical(run("nothing").to_json())
    monkeypatch.setattr("sys.argv", ["comparison", "train", "--run", wrong, "--output", str(tmp_path / "n.pt")])
    with pytest.raises(SystemExit, match="comparison: "):
        steps.main()


def test_a_network_trains_in_two_dimensions(run, tmp_path):
    from comparison.training import train

    found = train(run("geols", patch_size=[8, 8], flip_axes=[1], overlap=[0, 0]), tmp_path / "n.pt")
    assert len(found["losses"]) == 4 and found["weights"]["head.weight"].ndim == 4
    assert torch.isfinite(found["weights"]["head.weight"]).all()
