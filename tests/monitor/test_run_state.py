"""The state of a run: counted in results as they are made, right for batches, retries and what is made again."""

import pytest

from softlabels.config import parse_config
from softlabels.monitor.run_state import RunState, ScheduledJob
from softlabels.pipeline.failure import Failure
from softlabels.pipeline.plan import make_plan

CONFIG = {"channels": ["a"], "labels": {"background": 0, "gm": 1}, "targets": {"s": {"method": "svls"}}}
PLAN = make_plan(parse_config(CONFIG))
PREPARE, TARGET = PLAN.nodes
UNITS = {"batches/00000": ["a", "b"], "batches/00001": ["c"]}
STEPS = {PREPARE: [PREPARE], TARGET: [TARGET]}
#: Numbers of the jobs: prepare of both units, target of both, index.
P0, P1, T0, T1, INDEX = range(5)


def receipt(state, *works):
    for case, node in works:
        path = state.results / case / f"{node}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".new").write_text("{}")
        path.with_suffix(".new").replace(path)


@pytest.fixture
def state(tmp_path):
    return RunState(PLAN, UNITS, STEPS, tmp_path / "results", {PREPARE: 1.0, TARGET: 3.0})


def jobs(*numbers):
    of_steps = [ScheduledJob(n, "r", unit, step) for n, (step, unit) in enumerate((s, u) for s in STEPS for u in UNITS)]
    return [job for job in [*of_steps, ScheduledJob(INDEX, "index")] if job.number in numbers]


def test_results_of_a_batch_count_one_by_one_while_its_job_runs(state):
    state.schedule(jobs(P0, P1, T0, T1, INDEX), now=0)
    assert state.stages() == {"prepare": (0, 3), "target": (0, 3)} and state.others() == (0, 1)
    state.start(P0, now=1)
    receipt(state, ("a", PREPARE))
    assert state.stages()["prepare"] == (0, 3)
    state.look(state.active, now=2)
    assert state.stages()["prepare"] == (1, 3)
    receipt(state, ("b", PREPARE))
    state.end(P0, now=3)
    assert state.stages() == {"prepare": (2, 3), "target": (0, 3)} and not state.active
    state.start(INDEX, now=3)
    state.end(INDEX, now=4)
    assert state.others() == (1, 1)


def test_results_that_are_there_count_and_those_that_are_made_again_do_not_until_they_are(state):
    receipt(state, *((case, node) for case in "abc" for node in PLAN.nodes))
    state.schedule(jobs(T1), now=0)
    assert state.stages() == {"prepare": (3, 3), "target": (2, 3)} and not state.is_complete()
    state.start(T1, now=0)
    state.look([T1], now=1)
    assert state.stages()["target"] == (2, 3)
    receipt(state, ("c", TARGET))
    state.end(T1, now=2)
    assert state.stages()["target"] == (3, 3) and state.is_complete()


def test_results_that_the_run_was_not_asked_for_do_not_count(state):
    state.schedule(jobs(P1), now=0)
    assert state.stages() == {"prepare": (0, 1), "target": (0, 0)}
    receipt(state, ("c", PREPARE))
    state.end(P1, now=1)
    assert state.stages() == {"prepare": (1, 1), "target": (0, 0)}
    assert state.done() == {("c", PREPARE)} and not state.is_complete()


def test_failure_of_one_case_in_a_batch_is_that_case_alone_and_an_old_record_does_not_count(state):
    Failure("c", PREPARE, "case", "of an earlier run").write(state.results)
    state.schedule(jobs(P0, P1, T0, T1), now=0)
    for number in (P0, P1):
        state.start(number, now=0)
    state.look(state.active, now=1)
    assert state.failed_cases() == set()
    Failure("a", PREPARE, "case", "truncated").write(state.results)
    receipt(state, ("b", PREPARE))
    state.end(P0, now=2)
    assert state.failed_cases() == {"a"} and state.failures["a", PREPARE].why == "truncated"
    assert state.units_with_failures() == {"batches/00000": ["a", "b"]}
    assert ("b", PREPARE) in state.done() and ("a", PREPARE) not in state.done()


def test_job_that_was_killed_is_a_failure_of_its_cases_until_it_is_tried_again(state):
    state.schedule(jobs(P0), now=0)
    state.start(P0, now=0)
    receipt(state, ("a", PREPARE))
    state.end(P0, now=1, failed_logs=["log"])
    assert state.failed_cases() == {"b"}
    state.start(P0, now=2)
    assert state.failed_cases() == set()
    receipt(state, ("b", PREPARE))
    state.end(P0, now=3)
    assert state.failed_cases() == set() and not state.pending


def test_time_left_is_the_work_left_at_the_pace_of_the_run(state):
    state.schedule(jobs(P0, P1, T0, T1), now=100)
    assert state.seconds_left(now=110) is None
    for number, cases in ((P0, "ab"), (P1, "c")):
        state.start(number, now=100)
        receipt(state, *((case, PREPARE) for case in cases))
        state.end(number, now=112)
    # 3 of 12 are made in 12 s; 3 targets of 3 are left.
    assert state.seconds_left(now=112) == pytest.approx(9 * 12 / 3)
    Failure("a", TARGET, "case", "bad").write(state.results)
    state.start(T0, now=112)
    state.look([T0], now=112)
    assert state.seconds_left(now=112) == pytest.approx(6 * 12 / 3)
