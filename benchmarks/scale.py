"""How the workflow scales: planning 335 and 10,000 cases, the cost of a job, and what it adds to real work.

    python benchmarks/scale.py planning|jobs|cohort ... [--folder DIR]

Each writes its tables into benchmarks/RESULTS.md, section "Workflow scale". `cohort` needs the real volumes of
the tests (SOFTLABELS_TEST_DATA) and takes a quarter of an hour on two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import yaml
from real_volumes import needed_volumes
from results import read_section, write_section

# Processes start from compiled modules, as those of an installed package do.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

ROOT = Path(__file__).resolve().parents[1]
SECTION = "Workflow scale"
CONFIG = {
    "channels": ["image"],
    "labels": {"background": 0, "structure": 1},
    "targets": {"geols": {"method": "geols"}},
    "pictures": False,
}
#: Real volumes with one image and one label, of 8 thousand to 9 million voxels.
REAL = {
    "brain1": ("brain1_tumour/t1_post.nii.gz", "brain1_tumour/label.nii.gz"),
    "breast1": ("breast1/image.nii.gz", "breast1/label.nii.gz"),
    "organs": ("ct_organs_small/ct.nii.gz", "ct_organs_small/label.nii.gz"),
    "glioma": ("glioma_du7294/fla.nii.gz", "glioma_du7294/label_fusion_mav.nii.gz"),
    "ms": ("ms_p19/flair.nii.gz", "ms_p19/label_lesion.nii.gz"),
    "cord_t1": ("spinal_cord/t1w.nii.gz", "spinal_cord/t1w_seg-manual.nii.gz"),
    "cord_t2": ("spinal_cord/t2.nii.gz", "spinal_cord/t2_seg-manual.nii.gz"),
    "cord_t2s": ("spinal_cord/t2s.nii.gz", "spinal_cord/t2s_gmseg_manual.nii.gz"),
    "cord_mt": ("spinal_cord_mt/mt0.nii.gz", "spinal_cord_mt/PAM50_cord.nii.gz"),
}


def write_volume(path: Path, values: np.ndarray, like: sitk.Image | None = None) -> None:
    image = sitk.GetImageFromArray(values)
    if like is not None:
        image.CopyInformation(like)
    sitk.WriteImage(image, str(path))


def write_project(folder: Path, cases: dict[str, tuple[Path, Path]], **changes) -> Path:
    """Write config.yaml and the sheet of a project; return its folder."""
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG | changes, sort_keys=False))
    rows = ["case\timage:image\tlabel", *(f"{name}\t{image}\t{label}" for name, (image, label) in cases.items())]
    (folder / "cases.tsv").write_text("\n".join(rows) + "\n")
    return folder


def snakemake(folder: Path, *arguments: str) -> dict:
    """Run snakemake; return seconds of the clock and of CPUs, peak memory in MB and what it printed."""
    command = [sys.executable, "-m", "snakemake", "-s", str(ROOT / "Snakefile"), *arguments]
    code = "import resource, subprocess, sys; done = subprocess.run(sys.argv[1:]); "
    code += "used = resource.getrusage(resource.RUSAGE_CHILDREN); "
    code += "print('USED', used.ru_maxrss, used.ru_utime + used.ru_stime); sys.exit(done.returncode)"
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code, *command], cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    seconds = time.perf_counter() - start
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stdout[-4000:]}")
    peak_kb, cpu = re.findall(r"USED (\d+) ([\d.]+)", done.stdout)[-1]
    return {"seconds": seconds, "cpu": float(cpu), "peak_mb": int(peak_kb) / 1024, "said": done.stdout}


def softlabels(folder: Path, command: str) -> str:
    """Return what a command prints."""
    call = [sys.executable, "-m", "softlabels", command]
    return subprocess.run(call, cwd=folder, capture_output=True, text=True, check=True).stdout


def one_small_case(folder: Path) -> tuple[Path, Path]:
    """Write one image and label of 12 x 20 x 16 voxels."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    image, label = folder / "image.nii.gz", folder / "label.nii.gz"
    values = np.zeros((12, 20, 16), np.uint8)
    values[4:8, 6:14, 5:11] = 1
    write_volume(image, (100 * values + rng.normal(0, 5, values.shape)).astype(np.int16))
    write_volume(label, values)
    return image, label


def pretend_finished(folder: Path) -> None:
    """Leave receipts for every job, as if the run had ended."""
    from softlabels.config import load_config
    from softlabels.inputs.sheet import read_sheet
    from softlabels.pipeline.plan import make_plan
    from softlabels.pipeline.receipts import BatchReceipt, Receipt
    from softlabels.pipeline.units import make_steps, make_units

    config = load_config(folder / "config.yaml")
    plan, cases = make_plan(config), read_sheet(folder / "cases.tsv", config.channels)
    for node_id, node in plan.nodes.items():
        for case in cases:
            receipt = Receipt(case.id, node_id, node.stage, "0" * 64, "0" * 64, "/store", "computed", 1.0)
            receipt.write(folder / "results" / case.id / f"{node_id}.json")
    for unit, members in make_units([case.id for case in cases], config.batch_size).items():
        for step, nodes in make_steps(plan.nodes, config.job_stages).items():
            if not (path := folder / "results" / unit / f"{step}.json").exists():
                BatchReceipt(nodes, members).write(path)
    (folder / "results" / "report").mkdir()
    (folder / "results" / "index.json").write_text("{}")
    (folder / "results" / "report" / "index.html").write_text("")


def planning(folder: Path) -> list[str]:
    """Time the dry run, the no-op run and `softlabels status` for 335 and 10,000 cases."""
    lines = [
        "Planning: `snakemake --dry-run` of a fresh cohort; `snakemake` with every receipt there (nothing to do); and",
        "`softlabels status`. Four nodes and the index; a job is one case, or a batch, x one node or all. Times are",
        "CPU seconds of the one process that works: the time on the clock of an idle machine. A finished run leaves a",
        "receipt per case x node, and a log, a benchmark file and a small file of Snakemake's per job.",
        "",
        "| cases | stages_per_job | cases_per_job | jobs | dry run s | MB | no-op s | MB | status s |",
        "|---:|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    image, label = one_small_case(folder)
    for n in (335, 10_000):
        for stages, size in (("one", 1), ("all", 1), ("all", 16)):
            project = folder / f"plan-{n}-{stages}-{size}"
            cases = {f"case{i:05d}": (image, label) for i in range(n)}
            write_project(project, cases, cases_per_job=size, stages_per_job=stages)
            fresh = snakemake(project, "--dry-run", "--quiet", "rules")
            jobs = int(re.findall(r"^total\s+(\d+)", fresh["said"], re.MULTILINE)[-1])
            if n > 1000 and stages == "one":
                tenth = snakemake(
                    project, "results/index.json", "--batch", "index=1/10", "--dry-run", "--quiet", "rules"
                )
            pretend_finished(project)
            snakemake(project, "--touch", "--cores", "1", "--quiet")
            idle = snakemake(project, "--cores", "1")
            if "Nothing to be done" not in idle["said"]:
                sys.exit(f"{project}: not idle\n{idle['said'][-2000:]}")
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            softlabels(project, "status")
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            status = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            lines.append(
                f"| {n:,} | {stages} | {size} | {jobs:,} | {fresh['cpu']:.1f} | {fresh['peak_mb']:.0f} "
                f"| {idle['cpu']:.1f} | {idle['peak_mb']:.0f} | {status:.1f} |"
            )
            print(lines[-1], flush=True)
            shutil.rmtree(project)
    command = "`snakemake results/index.json --batch index=1/10 --dry-run`"
    used = f"{tenth['cpu']:.1f} s, {tenth['peak_mb']:.0f} MB"
    return [*lines, "", f"{command} of {n:,} cases, a job per stage and case: {used}."]


def own_work(project: Path) -> tuple[float, float]:
    """Return the seconds of our stages' own work, on the clock of each job and of CPU, as the receipts say."""
    receipts = [json.loads(path.read_text()) for path in (project / "results").glob("*/*-*.json")]
    return sum(one["seconds"] for one in receipts), sum(one["cpu_seconds"] for one in receipts)


def jobs(folder: Path) -> list[str]:
    """Time a cohort of tiny cases: what a job costs besides its work."""
    lines = [
        "Cost of a job on one machine: `--cores 2`, 40 cases of 12 x 20 x 16 voxels; work is what receipts say.",
        "",
        "| stages_per_job | cases_per_job | jobs | wall s | CPU s | work, CPU s | other, per job | per case |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    image, label = one_small_case(folder)
    values = sitk.GetArrayFromImage(sitk.ReadImage(str(image)))
    cases = {}
    for i in range(40):
        # Each case has a voxel of its own, or the store would compute only the first.
        values[0, 0, 0] = i
        write_volume(folder / f"small{i}.nii.gz", values)
        cases[f"case{i:05d}"] = (folder / f"small{i}.nii.gz", label)
    for stages, size in (("one", 1), ("all", 1), ("all", 8)):
        project = write_project(folder / f"jobs-{stages}-{size}", cases, cases_per_job=size, stages_per_job=stages)
        run = snakemake(project, "--cores", "2", "--quiet")
        n_jobs = count_jobs(len(cases), stages, size)
        _, work = own_work(project)
        besides = run["cpu"] - work
        lines.append(
            f"| {stages} | {size} | {n_jobs} | {run['seconds']:.1f} | {run['cpu']:.1f} | {work:.1f} "
            f"| {besides / n_jobs:.2f} s | {besides / len(cases):.2f} s |"
        )
        print(lines[-1], flush=True)
    return lines


def count_jobs(n_cases: int, stages: str, size: int) -> int:
    """Return how many jobs a cohort takes: four nodes or all in one, the index and the report."""
    return (4 if stages == "one" else 1) * -(-n_cases // size) + 2


def suggested_size(cases: dict[str, tuple[Path, Path]]) -> int:
    """Return the cases_per_job that `softlabels init` would write."""
    from softlabels._shared.cpus import usable_cpus
    from softlabels.config import parse_config
    from softlabels.inputs.sheet import Case
    from softlabels.pipeline.cost import suggested_cases_per_job
    from softlabels.pipeline.plan import make_plan

    listed = [Case(name, (str(image),), str(label)) for name, (image, label) in cases.items()]
    return suggested_cases_per_job(make_plan(parse_config(CONFIG)), listed, stages_per_job="all", n_cpus=usable_cpus())


def cohort(folder: Path) -> list[str]:
    """Run the real cases, repeated to a cohort of 50, and compare the clock with the stages' own work."""
    lines = [
        "Nine real volumes repeated to 50 cases (each with one voxel changed, so that the store has none of them);",
        "GeoLS; `--cores 2`; a job per stage and case, a job per case, and what `softlabels init` writes: one job at a",
        "time with two threads, and two at once. Overhead is what is not the stages' own work, of all CPU time; and of",
        "the clock, where jobs run one after another.",
        "",
        "| stages_per_job | cases_per_job | threads | jobs | wall s | CPU s | work | overhead | of clock | planned |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---|",
    ]
    folder.mkdir(parents=True, exist_ok=True)
    cases = {}
    for i in range(50):
        name = list(REAL)[i % len(REAL)]
        image, label = (sitk.ReadImage(str(needed_volumes() / path)) for path in REAL[name])
        values = sitk.GetArrayFromImage(image).astype(np.float32)
        values[0, 0, 0] = i
        write_volume(folder / f"{i}_image.nii.gz", values, image)
        write_volume(folder / f"{i}_label.nii.gz", (sitk.GetArrayFromImage(label) > 0).astype(np.uint8), image)
        cases[f"{name}_{i:02d}"] = (folder / f"{i}_image.nii.gz", folder / f"{i}_label.nii.gz")
    suggested = suggested_size(cases)
    for stages, size, threads in (("one", 1, 1), ("all", 1, 1), ("all", suggested, 2), ("all", suggested, 1)):
        name = f"cohort-{stages}-{size}-{threads}"
        project = write_project(folder / name, cases, cases_per_job=size, stages_per_job=stages)
        planned = re.findall(r"CPU time (.*)", softlabels(project, "plan"))[0]
        run = snakemake(project, "--cores", "2", "--quiet", "--set-threads", f"stages={threads}")
        clock, work = own_work(project)
        of_clock = f"{100 * (run['seconds'] - clock) / run['seconds']:.0f} %" if threads == 2 else "-"
        lines.append(
            f"| {stages} | {size} | {threads} | {count_jobs(50, stages, size)} | {run['seconds']:.0f} "
            f"| {run['cpu']:.0f} | {work:.0f} | {100 * (run['cpu'] - work) / run['cpu']:.0f} % | {of_clock} "
            f"| CPU {planned} |"
        )
        print(lines[-1], flush=True)
        print(softlabels(project, "status"), flush=True)
    return lines


def write_tables(tables: dict[str, list[str]]) -> None:
    """Replace, in this benchmark's section of RESULTS.md, only the tables that were made now."""
    kept = dict(re.findall(r"### (\w+)\n(.*?)(?=\n### |\Z)", read_section(SECTION), re.DOTALL))
    kept |= {name: "\n" + machine() + "\n\n" + "\n".join(lines) for name, lines in tables.items()}
    write_section(SECTION, "\n\n".join(f"### {name}\n\n{content.strip()}" for name, content in kept.items()))


def machine() -> str:
    """Return what the figures were measured on."""
    load = os.getloadavg()[0]
    cores = len(os.sched_getaffinity(0))
    python = platform.python_version()
    return f"{time.strftime('%Y-%m-%d')}, {cores} cores ({platform.machine()}), Python {python}, load {load:.1f}"


def main() -> None:
    """Run the benchmarks that are named."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("which", nargs="+", choices=("planning", "jobs", "cohort"))
    parser.add_argument("--folder", type=Path, required=True, help="where to write; emptied first")
    asked = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for name in asked.which:
        shutil.rmtree(asked.folder / name, ignore_errors=True)
        write_tables({name: globals()[name](asked.folder / name)})


if __name__ == "__main__":
    main()
