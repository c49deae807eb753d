"""`softlabels run` and Snakemake: what it adds to the arguments; output, signals and exit codes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import made_data
from typer.testing import CliRunner

from softlabels.cli.commands import app
from softlabels.cli.run import check_configurations
from softlabels.errors import ConfigError
from softlabels.monitor.deployment import workflow_folder
from softlabels.monitor.run import _PLAIN, RunCommand, RunningWorkflow, _parsed, run_command

HOME = workflow_folder()
PROFILE = str(HOME / "workflow" / "profiles" / "default")


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    made_data.write_cohort(tmp_path, n_cases=1)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("softlabels.monitor.run.usable_cpus", lambda: 7)
    return tmp_path


def test_in_a_project_only_the_number_of_cores_is_added(project):
    found = run_command(["--config", "device=cuda"])
    assert found.arguments == ["--cores", "7", "--config", "device=cuda"] and not found.is_own
    assert run_command([]).is_own and not found.is_plain and not found.is_remote


def test_without_a_snakefile_the_workflow_of_the_package_runs_with_its_profile(project):
    (project / "Snakefile").unlink()
    (project / "profiles" / "default" / "config.yaml").unlink()
    (project / "profiles" / "default").rmdir()
    found = run_command([])
    added = ["--snakefile", str(HOME / "Snakefile")]
    # In a checkout, the profile is where Snakemake finds it by itself.
    if not (HOME / "profiles" / "default").exists():
        added += ["--workflow-profile", PROFILE]
    assert found.arguments == [*added, "--cores", "7"] and found.is_own


@pytest.mark.parametrize(
    ("arguments", "cores"),
    [
        (["--cores", "2"], False),
        (["-j3"], False),
        (["--cores", "all", "--", "results/index.json"], False),
        (["--executor", "slurm", "--jobs", "5"], False),
        (["--sdm", "conda", "--", "results/index.json"], True),
        (["results/index.json", "--forceall"], True),
    ],
)
def test_arguments_of_the_user_are_passed_on_as_they_are(project, arguments, cores):
    found = run_command(arguments)
    assert found.arguments == [*(["--cores", "7"] if cores else []), *arguments]
    assert found.is_remote == ("slurm" in arguments)


def test_number_of_cores_in_a_profile_is_left_alone(project):
    with open(project / "profiles" / "default" / "config.yaml", "a") as file:
        file.write("\ncores: 3\n")
    assert run_command([]).arguments == []


@pytest.mark.parametrize(
    "argument", ["-n", "--dry-run", "-np", "--verbose", "--quiet", "-p", "--lint", "--unlock", "--dag"]
)
def test_who_asks_for_the_output_of_snakemake_gets_it(project, argument):
    assert run_command([argument]).is_plain


def test_configurations_that_are_read_are_those_that_are_named(project):
    assert run_command([]).config_files == [Path("config.yaml")]
    two = run_command(["--configfile", "a.yaml", "b.yaml"])
    assert [path.name for path in two.config_files] == ["a.yaml", "b.yaml"] and not two.is_own
    (project / "Snakefile").write_text('configfile: "study.yaml"\n')
    assert not run_command([]).is_own


def test_wrong_argument_is_refused_in_the_words_of_snakemake(project, capsys):
    with pytest.raises(SystemExit) as ended:
        run_command(["--coers", "2"])
    said = capsys.readouterr().err
    assert ended.value.code == 2 and said.count("\n") == 1 and "Snakemake says: unrecognized arguments: --coers" in said


@pytest.mark.parametrize(
    "bomb", ["a: &a [x]\nb: [*a, *a]\n" + "c: !!python/name:os.system\n", "store: ''\n", "a: 1\na: 2\n"]
)
def test_hostile_configuration_never_reaches_snakemake(project, bomb, monkeypatch):
    (project / "config.yaml").write_text(bomb)
    monkeypatch.setattr("softlabels.monitor.run.RunningWorkflow.__enter__", lambda self: pytest.fail("it was started"))
    done = CliRunner().invoke(app, ["run"])
    assert done.exit_code == 1 and "config.yaml: " in str(done.exception)


#: A Snakemake that says what it was given, prints a line, and waits for signals.
FAKE = """
import os, signal, sys, time
events = int(os.environ.pop("SOFTLABELS_EVENTS"))
got = []
def note(number, frame):
    got.append(number)
    print("got", signal.Signals(number).name, len(got), flush=True)
signal.signal(signal.SIGINT, note)
signal.signal(signal.SIGTERM, note)
print(sys.flags.utf8_mode, sys.flags.safe_path, os.environ["PYTHONUTF8"], sys.argv[1:])
os.write(events, b'{"kind": "message", "level": 20, "text": "ready"}\\n')
print("ready", flush=True)
end = time.monotonic() + 60
while sys.argv[-1] == "wait" and time.monotonic() < end and not got:
    time.sleep(0.05)
time.sleep(0.5)
sys.exit(1 if got else int(sys.argv[-1]))
"""


def start(project: Path, *arguments: str) -> subprocess.Popen:
    """Start `softlabels run` with a Snakemake that only says what it gets."""
    fake = project / "fake"
    (fake / "snakemake").mkdir(parents=True)
    (fake / "snakemake" / "__init__.py").touch()
    (fake / "snakemake" / "__main__.py").write_text(FAKE)
    # The parser is Snakemake's own.
    code = (
        "import sys, os, snakemake.cli\nfrom softlabels.cli import main\n"
        f"os.environ['PYTHONPATH'] = os.pathsep.join([{str(fake)!r}, os.environ.get('PYTHONPATH', '')])\n"
        "sys.argv[0] = 'softlabels'\nmain()"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code, "run", *arguments],
        cwd=project,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def test_an_event_that_a_killed_snakemake_did_not_finish_is_left_out(project, monkeypatch):
    script = """
import os, signal
os.write(int(os.environ["SOFTLABELS_EVENTS"]), b'{"kind": "message"}\\n{"kind": "proj')
os.kill(os.getpid(), signal.SIGKILL)
"""
    monkeypatch.setattr(RunCommand, "command", [sys.executable, "-c", script])
    taken = []
    with RunningWorkflow(run_command([]), is_captured=False) as running:
        while not running.has_ended():
            taken += running.messages(0.1)
        while events := list(running.messages(0)):
            taken += events
    assert taken == [{"kind": "message"}] and running.exit_code == -signal.SIGKILL


def test_every_option_of_which_snakemake_shows_the_output_is_one():
    assert [name for name in _PLAIN if not hasattr(_parsed([]), name)] == []


def test_the_sheet_is_looked_for_in_the_folder_that_snakemake_works_in(project, monkeypatch):
    monkeypatch.chdir(project.parent)
    command = run_command(["-d", project.name, "-s", f"{project.name}/Snakefile"])
    assert command.is_own
    check_configurations(command)
    (project / "cases.tsv").unlink()
    with pytest.raises(ConfigError, match="sheet cases.tsv: No such file"):
        check_configurations(command)
    assert Path.cwd() == project.parent


@pytest.mark.parametrize("code", [0, 1, 3])
def test_exit_code_is_that_of_snakemake_which_works_in_utf8_and_without_the_folder_on_its_path(project, code):
    running = start(project, "--cores", "1", str(code))
    said, _ = running.communicate(timeout=120)
    assert running.returncode == code, said
    assert f"1 True 1 ['--cores', '1', '{code}']" in said and "ready" in said


@pytest.mark.parametrize(
    ("number", "to_group"), [(signal.SIGINT, False), (signal.SIGINT, True), (signal.SIGTERM, False)]
)
def test_signal_is_passed_on_exactly_once(project, number, to_group):
    running = start(project, "--cores", "1", "wait")
    said = ""
    while "ready" not in said:
        line = running.stdout.readline()
        assert line, said
        said += line
    # As a terminal does, which signals the whole group in the foreground, or `kill`.
    (os.killpg if to_group else os.kill)(running.pid, number)
    time.sleep(0.1)
    rest, _ = running.communicate(timeout=120)
    assert f"got {signal.Signals(number).name} 1" in rest and " 2" not in rest, said + rest
    assert running.returncode == 1 and "Traceback" not in rest
