"""Whatever ends a job or the controller: nothing wrong is published, and the same command again finishes the work.

Every job is interrupted at its most delicate moment: its entry is written, and not yet published.
"""

import os
import signal
import subprocess

import pytest
from helpers.slurm_project import Project, make_project, wait_for

SVLS = {"targets": {"svls": {"method": "svls"}}, "pictures": False}
DONE = ["prepare", "target"]


def cancel(project: Project, controller) -> None:
    subprocess.run(["scancel", project.jobs()[0].id], check=True, timeout=30)


def lose_node(project: Project, controller) -> None:
    subprocess.run(["scontrol", "update", "nodename=cpu2", "state=down", "reason=test"], check=True, timeout=30)


def terminate(project: Project, controller) -> None:
    controller.send_signal(signal.SIGTERM)
    (project.folder / "pause").unlink()


def interrupt(project: Project, controller) -> None:
    controller.send_signal(signal.SIGINT)


def kill_and_race(project: Project, controller) -> None:
    """Kill the controller, start another beside the orphan, and let both jobs publish at once."""
    os.killpg(controller.pid, signal.SIGKILL)
    controller.wait(10)
    again = project.start()
    wait_for("orphan and new job are both about to publish", lambda: project.held() == 2)
    (project.folder / "pause").unlink()
    assert again.wait(400) == 0, project.said()


#: Name to what happens, with what the controller is started, the job's state then, and what is published then.
EVENTS = {
    "scancel": (cancel, (), {"CANCELLED"}, []),
    "time limit": (None, ("--set-resources", "prepare:runtime=1"), {"TIMEOUT"}, []),
    "memory": (None, ("--set-resources", "prepare:mem_mb=120"), {"FAILED", "OUT_OF_MEMORY", "CANCELLED"}, []),
    "node loss": (lose_node, ("--set-resources", "prepare:slurm_partition=spare"), {"NODE_FAIL"}, []),
    "SIGTERM": (terminate, (), {"COMPLETED"}, ["prepare"]),
    "SIGINT": (interrupt, (), {"CANCELLED"}, []),
    "SIGKILL": (kill_and_race, (), {"COMPLETED"}, DONE),
    # The orphan and its successor meet at every stage, and each reads what the other may have written.
    "all stages": (kill_and_race, (), {"COMPLETED"}, DONE),
}
#: What is not as in SVLS.
CONFIGS = {"all stages": {"stages_per_job": "all"}}


def show(found: dict[str, dict]) -> None:
    line = "{:12} {:>4} {:10} {:>5}  {:16} {:>5}  {}"
    print("\n" + line.format("event", "job", "its state", "exit", "published then", "again", "published in the end"))
    for name, row in found.items():
        then, end = (", ".join(row[key]) or "nothing" for key in ("after", "end"))
        print(line.format(name, row["job"].id, row["job"].state, row["status"], then, row["again"], end))


@pytest.fixture(scope="module")
def outcome(tmp_path_factory, home):
    """Interrupt all projects, then run the same command in all of them; return what was there before and after."""
    projects = {
        name: make_project(tmp_path_factory.mktemp("project"), home, **SVLS, **CONFIGS.get(name, {})) for name in EVENTS
    }
    controllers = {}
    for name, project in projects.items():
        (project.folder / "pause").touch()
        controllers[name] = project.start("--retries", "0", *EVENTS[name][1])
    for name, project in projects.items():
        if name != "memory":
            wait_for(f"{name}: the job is about to publish", lambda p=project: p.held() == 1)
    found = {name: {"before": project.published()} for name, project in projects.items()}
    for name, (event, *_) in EVENTS.items():
        if event:
            event(projects[name], controllers[name])
    for name, controller in controllers.items():
        found[name]["status"] = controller.wait(400)
        found[name] |= {"job": projects[name].jobs()[0], "after": projects[name].published()}
        found[name]["receipts"] = projects[name].receipts()
        found[name]["status says"] = projects[name].softlabels("status").stdout
    # Refused where Slurm has taken the node back already.
    subprocess.run(
        ["scontrol", "update", "nodename=cpu2", "state=resume"], check=False, capture_output=True, timeout=30
    )
    for project in projects.values():
        (project.folder / "pause").unlink(missing_ok=True)
    again = {name: project.start() for name, project in projects.items()}
    for name, controller in again.items():
        found[name] |= {"again": controller.wait(400), "end": projects[name].published(), "said": projects[name].said()}
    show(found)
    return found


@pytest.mark.parametrize("name", EVENTS)
def test_interruption_publishes_nothing_wrong_and_the_same_command_finishes(outcome, name):
    _, _, states, published = EVENTS[name]
    found = outcome[name]
    assert found["before"] == []
    assert found["status"] != 0 and found["job"].state in states, found["said"]
    assert found["after"] == published and found["receipts"] == published
    assert found["again"] == 0, found["said"]
    assert found["end"] == DONE


@pytest.mark.parametrize(("name", "why"), [("time limit", "DUE TO TIME LIMIT"), ("memory", "emory limit")])
def test_status_says_why_slurm_ended_a_job_and_that_nothing_runs(outcome, name, why):
    said = outcome[name]["status says"]
    assert "failed: case0 prepare-" in said and "ended by Slurm: " in said and why in said
    assert "2 results are left and nothing runs" in said
