# The plan and the functions that find what a rule reads; no rules here.
import atexit
import gc
import math
import os
import subprocess
import sys
import time
from functools import cache
from hashlib import sha256
from pathlib import Path

from softlabels.inputs import detached
from softlabels.inputs.sheet import cases_to_json, read_sheet
from softlabels.config import command_line_values, parse_config, read_yaml
from softlabels.monitor.environment import restart_in_utf8, set_job_environment
from softlabels.monitor.events import report_events
from softlabels.monitor.lock import release_stale_lock
from softlabels.monitor.rate_limit import lift_limit_of_local_jobs
from softlabels.monitor.trust import open_to_all
from softlabels.pipeline.cost import JOB_THREADS, estimate_job, local_threads, prepared_voxels, time_limit_min
from softlabels._shared.memory import free_memory_mb
from softlabels._shared.plain_json import canonical_json
from softlabels.pipeline.job_files import JobFiles
from softlabels.pipeline.names import link_names
from softlabels.pipeline.node import nodes_to_json
from softlabels.pipeline.plan import make_plan
from softlabels.pipeline.stages import STAGES
from softlabels.pipeline.units import ALL_STAGES, make_steps, make_units
from softlabels.pipeline.upkeep import date_back, forget_incomplete

# Plans are made of objects that stay: looking among them for garbage after every 700, as Python does, takes a tenth of
# the time of planning.
gc.set_threshold(50_000, 20, 100)

# A process that was started as `snakemake` starts again as the same.
if workflow.is_main_process and Path(sys.argv[0]).name in ("snakemake", "__main__.py"):
    restart_in_utf8("snakemake", sys.argv[1:])
IS_MODULE = not workflow.modifier.is_main_snakefile()
set_job_environment(Path(".snakemake/package"), is_module=IS_MODULE)

if IS_MODULE:
    # The configuration is what the module statement names; the files are those of the workflow around it.
    source, given = "config of the module", list(workflow.config_settings.config.values())
else:
    # Snakemake's YAML reader drops duplicate keys in silence; softlabels refuses them.
    for path in workflow.configfiles:
        read_yaml(path)
    source, given = ", ".join(map(str, workflow.configfiles)) or "config", [workflow.config_settings.config]
for values in given:
    config = command_line_values(config, values) if isinstance(values, dict) else config
CONFIG = parse_config(config, source)
# Snakemake puts the prefix of a module before the paths of rules, and jobs need to know the paths as they are then.
RESULTS, STORE = CONFIG.results, CONFIG.store
CONFIG = CONFIG.model_copy(update={"results": str(workflow.modifier.modify_path(RESULTS, "output"))})
PLAN = make_plan(CONFIG)
CASES = {case.id: case for case in read_sheet(CONFIG.cases, CONFIG.channels)}
JOB_FILES = JobFiles()
# `workflow.dryrun` is not known before the jobs are planned.
if workflow.is_main_process and not workflow.output_settings.dryrun:
    if release_stale_lock(Path()):
        forget_incomplete(Path(CONFIG.results))
        print("The last run here was killed: its lock is removed, its finished work is kept.", file=sys.stderr)
    if n_future := date_back(Path(CONFIG.results), time.time()):
        print(f"{n_future} receipts were dated in the future, by a machine whose clock is ahead.", file=sys.stderr)
if workflow.is_main_process:
    for line in open_to_all([Path.cwd(), *workflow.configfiles, CONFIG.cases, CONFIG.results, CONFIG.store]):
        print(f"warning: {line}", file=sys.stderr)


# What Snakemake schedules: a case, or a batch of cases that share a process.
UNITS = make_units(list(CASES), CONFIG.batch_size)
UNIT_OF = {case: unit for unit, cases in UNITS.items() for case in cases}
# And what a job does with it: a node of the plan, or all of them in turn.
STEPS = make_steps(PLAN.nodes, CONFIG.job_stages)

if workflow.is_main_process:
    logs = workflow.modifier.modify_path("logs", "log")
    report_events(workflow, CONFIG.to_json(), Path(CONFIG.results), Path(logs), UNITS, STEPS)


wildcard_constraints:
    case=r"[A-Za-z0-9][A-Za-z0-9_.-]*",
    unit=r"(batches/)?[A-Za-z0-9][A-Za-z0-9_.-]*",
    node=r"(prepare|seeds|distance|target)-[0-9a-f]{8}",


def clean_up(*, is_failed):
    """Report failures, link results by name, let the next run try failed cases again, delete job files without use."""
    # Of a module, nobody says how the workflow around it ended.
    if any(Path(CONFIG.results).glob("*/*.failed")) if IS_MODULE else is_failed:
        report_failures()
    link_names(PLAN, Path(CONFIG.results), CASES)
    forget_incomplete(Path(CONFIG.results), require_all=is_failed)
    JOB_FILES.delete_unused()


# Of a module, Snakemake ignores onsuccess and onerror.
if IS_MODULE and workflow.is_main_process:
    atexit.register(lambda: None if workflow.dryrun else clean_up(is_failed=True))


def report_failures():
    """Write the report in spite of failures: without an index, the rule that writes it does not run."""
    command = [sys.executable, "-P", "-m", "softlabels", "report", "--job-config", file_of_config()]
    Path("logs").mkdir(exist_ok=True)
    with open("logs/report.log", "w") as log:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
    said = f"{RESULTS}/report/index.html" if done.returncode == 0 else "no report: see logs/report.log"
    print(f"Failed cases and their reasons: {said}", file=sys.stderr)


def final_outputs():
    """Return the files that `snakemake` makes when no target is named."""
    picture = "pictures" if CONFIG.batch_size > 1 else "montage.png"
    pictures = [f"{RESULTS}/{unit}/{picture}" for unit in UNITS] if CONFIG.pictures else []
    return [f"{RESULTS}/index.json", f"{RESULTS}/report/index.html", *pictures]


def upstream_receipts(wildcards):
    """Return the receipts of the nodes that a job reads, except those that it writes itself."""
    own = job_nodes(wildcards)
    needed = {node for node_id in own for node in PLAN.nodes[node_id].inputs.values()}
    return [f"{RESULTS}/{wildcards.unit}/{node}.json" for node in sorted(needed.difference(own))]


def case_files(wildcards):
    """Return the files of a unit's cases that a job reads itself."""
    # Snakemake would take {name} in a path for a wildcard. Such files are watched by `file_states` alone.
    files = states_of_files(wildcards.unit, tuple(job_nodes(wildcards)))
    return [path for path in files if not set("{}") & set(path)]


def file_states(wildcards):
    """Return size and time of last change of the files that a job reads itself; None of one that is missing."""
    states = states_of_files(wildcards.unit, tuple(job_nodes(wildcards)))
    # A file that a rule of the workflow around this one makes is missing while that is planned.
    return [file_state(path) if state is None else state for path, state in states.items()]


@cache
def states_of_files(unit, node_ids):
    """Return path to state of the files that nodes of a unit's cases read; Snakemake asks several times a job."""
    nodes = [PLAN.nodes[node_id] for node_id in node_ids]
    paths = [path for case in UNITS[unit] for node in nodes for _, path in STAGES[node.stage].files(node, CASES[case])]
    return {path: file_state(path) for path in paths}


def file_state(path):
    """Return [bytes, nanoseconds since the epoch] of a file, or None if it is missing."""
    try:
        return list(detached.file_state(path))
    except OSError:
        return None


def unit_receipts(wildcards):
    """Return the receipts of every step of one unit."""
    return [f"{RESULTS}/{wildcards.unit}/{step}.json" for step in STEPS]


def case_receipts(wildcards):
    """Return the receipts of every step of the unit that a case is in."""
    return [f"{RESULTS}/{UNIT_OF[wildcards.case]}/{step}.json" for step in STEPS]


def all_receipts(wildcards):
    """Return the receipts of every step of every unit."""
    return [f"{RESULTS}/{unit}/{step}.json" for unit in UNITS for step in STEPS]


def job_nodes(wildcards):
    """Return the ids of the nodes that a job works on: its own, or all."""
    return [wildcards.node] if "node" in wildcards.keys() else list(PLAN.nodes)


def job_file(content):
    """Return the path of the file that hands a content to a job. A dry run writes nothing."""
    return str(JOB_FILES.path(content) if workflow.dryrun else JOB_FILES.write(content))


def nodes_file(wildcards):
    """Return the file with what a job must do: stage, parameters and algorithm version of its nodes."""
    return file_of_nodes(tuple(job_nodes(wildcards)))


@cache
def file_of_nodes(node_ids):
    """Return the file of some nodes; Snakemake asks for it several times a job."""
    return job_file(nodes_to_json(PLAN.nodes[node_id] for node_id in node_ids))


def cases_file(wildcards):
    """Return the file with the cases that a job works on."""
    return file_of_cases(wildcards.unit)


@cache
def file_of_cases(unit):
    """Return the file of a unit's cases; Snakemake asks for it several times a job."""
    return job_file(cases_to_json(CASES[case] for case in UNITS[unit]))


def splits_digest(wildcards):
    """Return a digest of what the index takes from the sheet itself: cases in their order, with their splits."""
    return sha256(canonical_json([[case.id, case.split] for case in CASES.values()])).hexdigest()


def store_folder(wildcards):
    """Return the store; a function, because Snakemake looks for wildcards in plain text."""
    return STORE


def results_folder(wildcards):
    """Return the folder of all receipts."""
    return CONFIG.results


def config_file(wildcards):
    """Return the file with the whole configuration, command-line overrides included."""
    return file_of_config()


@cache
def file_of_config():
    """Return the file of the configuration; Snakemake asks for it once for each picture."""
    return job_file(CONFIG.to_json())


def unit_costs(wildcards):
    """Return what each case x node of a job was estimated to take."""
    return costs_of_unit(wildcards.unit, tuple(job_nodes(wildcards)))


@cache
def costs_of_unit(unit, node_ids):
    """Return what each case x node was estimated to take; Snakemake asks several times a job."""
    return [estimate_job(PLAN, node, CASES[case]) for node in node_ids for case in UNITS[unit]]


def job_threads(wildcards, attempt):
    """Return the threads of a job: here as many as keep all cores busy, elsewhere what a profile may change."""
    # A job that has been sent to a node uses what was asked for; and more jobs at once would share a GPU.
    if not (workflow.local_exec and workflow.is_main_process and workflow.cores) or CONFIG.device == "cuda":
        return JOB_THREADS
    return local_threads(memory_mb(wildcards, attempt), len(UNITS), workflow.cores, free_memory_mb())


def memory_mb(wildcards, attempt):
    """Return the memory of a job: what its largest step was measured to need, more with each attempt."""
    return attempt * max(cost.memory_mb for cost in unit_costs(wildcards))


def runtime_min(wildcards, attempt):
    """Return the time limit of a job in minutes: several times what its cases were measured to take."""
    return attempt * time_limit_min(sum(cost.seconds for cost in unit_costs(wildcards)))


def picture_min(wildcards, attempt):
    """Return the time limit, in minutes, for the pictures of a unit."""
    return attempt * (10 + len(UNITS[wildcards.unit]))


@cache
def tuned_cases():
    """Return the ids of the cases that `snakemake tune` scores: those with a reference that are not held out."""
    # Slow to import, and hardly any run tunes.
    from softlabels.evaluation.trial import tuning_cases

    return [case.id for case in tuning_cases(CONFIG, list(CASES.values()))[0]]


@cache
def trial():
    """Return all candidates of `snakemake tune`; made only if a job of it is planned."""
    from softlabels.evaluation.trial import make_trial

    return make_trial(CONFIG, [CASES[case] for case in tuned_cases()])


def scores_of_cases(wildcards):
    """Return the files of scores of all cases that are tuned on."""
    return [f"{RESULTS}/tune/scores/{case}.json" for case in tuned_cases()]


def paths_of_scored(case_id):
    """Return the paths of the files that scoring a case reads."""
    case = CASES[case_id]
    return [path for _, path in case.files()] + ([] if case.has_rater_reference else list(case.reference))


def scored_files(wildcards):
    """Return the files that scoring a case reads; those whose path looks like a wildcard are watched by state alone."""
    return [path for path in paths_of_scored(wildcards.case) if not set("{}") & set(path)]


def scored_states(wildcards):
    """Return the states of the files that scoring a case reads."""
    return [file_state(path) for path in paths_of_scored(wildcards.case)]


def trial_digest(wildcards):
    """Return a digest of all candidates and versions that scores depend on."""
    return trial().digest


def tune_costs(wildcards):
    """Return what each map of a case was estimated to take."""
    return [estimate_job(trial().plan, node, CASES[wildcards.case]) for node in trial().plan.nodes]


def tune_memory_mb(wildcards, attempt):
    """Return the memory to score a case: its largest map, twice for the scores."""
    return attempt * 2 * max(cost.memory_mb for cost in tune_costs(wildcards))


def tune_runtime_min(wildcards, attempt):
    """Return the time limit to score a case in minutes; a score takes about as long as a map."""
    return attempt * time_limit_min(2 * sum(cost.seconds for cost in tune_costs(wildcards)))


def choice_memory_mb(wildcards, attempt):
    """Return the memory to choose: a calibration holds the soft labels of all cases."""
    voxels = sum(prepared_voxels(trial().plan, CASES[case]) for case in tuned_cases())
    return attempt * math.ceil(1000 + 16 * len(trial().labels.classes) * voxels / 1e6)


def choice_runtime_min(wildcards, attempt):
    """Return the time limit to choose, in minutes: a calibration for each case, and the maps of a few candidates."""
    return attempt * (30 + 5 * len(tuned_cases()))
