"""Commands that start a project and check its inputs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from softlabels._shared.cpus import usable_cpus
from softlabels._shared.files import read_small_text, write_atomically
from softlabels.cli.app import DEFAULT_CONFIG, ConfigPath, Project, app
from softlabels.errors import InputError

if TYPE_CHECKING:
    from softlabels.inputs.sheet import Case


@app.command(rich_help_panel="Start a project")
def init(
    folder: Annotated[Path, typer.Argument(help="where to write config.yaml and cases.tsv")] = Path("."),
    nnunet: Annotated[Path | None, typer.Option(help="a raw nnU-Net data set with the cases and labels")] = None,
    nnunet_preprocessed: Annotated[
        Path | None, typer.Option(help="nnU-Net's preprocessed arrays: the data folder of one configuration")
    ] = None,
    msd: Annotated[Path | None, typer.Option(help="a Medical Segmentation Decathlon task")] = None,
    brats: Annotated[Path | None, typer.Option(help="a folder of BraTS cases")] = None,
    brats_labels: Annotated[str | None, typer.Option(help="release of the label values: 2012-2022 or 2023")] = None,
    profile: Annotated[str | None, typer.Option(help="install this Snakemake profile for your user: slurm")] = None,
    account: Annotated[str | None, typer.Option(help="with --profile slurm: your Slurm account")] = None,
    partition: Annotated[str | None, typer.Option(help="with --profile slurm: the partition for CPU jobs")] = None,
    gpu_partition: Annotated[str | None, typer.Option(help="with --profile slurm: the partition for GPU jobs")] = None,
) -> None:
    """Start a project: write config.yaml, cases.tsv and a Snakefile, from a data set if one is given."""
    import yaml

    from softlabels.config import parse_config
    from softlabels.config.template import config_template
    from softlabels.inputs.sheet import write_sheet
    from softlabels.monitor.deployment import project_files
    from softlabels.pipeline.cost import suggested_cases_per_job
    from softlabels.pipeline.plan import make_plan

    if profile:
        from softlabels.monitor.profiles import install_profile

        where = install_profile(profile, account, partition, gpu_partition)
        print(f"{where}: profile installed. Next: snakemake --profile {profile}, in a project's folder")
        return
    chosen = [path for path in (nnunet, nnunet_preprocessed, msd, brats) if path]
    if len(chosen) > 1:
        raise InputError("init: got several data sets, expected one of --nnunet, --nnunet-preprocessed, --msd, --brats")
    if brats_labels and not brats:
        raise InputError("init: got --brats-labels without --brats. Give the folder of BraTS cases too")
    cases: list[Case] = []
    channels = ["image"]
    labels: dict[str, int | list[int]] = {"background": 0, "foreground": 1}
    if nnunet_preprocessed:
        from softlabels.inputs.nnunet_preprocessed import import_nnunet_preprocessed

        cases, channels, labels = import_nnunet_preprocessed(nnunet_preprocessed)
    elif chosen:
        from softlabels.inputs.importers import import_brats, import_msd, import_nnunet

        if nnunet:
            cases, channels, labels = import_nnunet(nnunet)
        elif msd:
            cases, channels, labels = import_msd(msd)
        elif brats:
            cases, channels, labels = import_brats(brats, brats_labels)
    to_run = project_files()
    for path in (folder / name for name in ("config.yaml", "cases.tsv", *to_run)):
        if path.exists():
            raise InputError(f"{path}: already exists. Choose another folder, or delete it first")
    folder.mkdir(parents=True, exist_ok=True)
    is_nnunet = nnunet_preprocessed is not None
    text = config_template(list(channels), labels, is_nnunet=is_nnunet)
    if cases:
        parsed = parse_config(yaml.safe_load(text))
        suggested = suggested_cases_per_job(make_plan(parsed), cases, stages_per_job=parsed.stages_per_job)
        text = config_template(list(channels), labels, suggested, is_nnunet=is_nnunet)
    write_atomically(folder / "config.yaml", text)
    write_sheet(cases, folder / "cases.tsv", channels)
    for name, content in to_run.items():
        write_atomically(folder / name, content)
    print(f"{folder}: {len(cases)} cases in cases.tsv; config.yaml and Snakefile written. Next: softlabels check")


@app.command(rich_help_panel="Start a project")
def check(
    config: ConfigPath = DEFAULT_CONFIG,
    threads: Annotated[int | None, typer.Option(min=1, help="cases to read at once; default: all cores")] = None,
) -> None:
    """Verify every input file by reading it completely, and print all errors at once."""
    from concurrent.futures import ThreadPoolExecutor

    from rich.progress import track

    from softlabels.config import recipe_notes
    from softlabels.inputs.case import check_case

    project = Project.load(config)
    checks = project.plan.nodes[project.plan.prepare].checks
    with ThreadPoolExecutor(threads or usable_cpus()) as pool:
        found = pool.map(lambda case: check_case(case, threads=1, **checks), project.cases)
        findings = [one for case in track(found, "Reading", len(project.cases)) for one in case]
    for note in recipe_notes(project.config):
        print(f"{'note':<7}  {note}")
    for finding in findings:
        print(f"{finding.severity:<7}  {finding}")
    n_errors = sum(finding.is_error for finding in findings)
    bad = len({finding.case_id for finding in findings if finding.is_error})
    print(f"{len(project.cases)} cases: {len(project.cases) - bad} good, {bad} with {n_errors} errors")
    raise typer.Exit(1 if n_errors else 0)


@app.command(hidden=True)
def reference(
    check: Annotated[bool, typer.Option(help="only check that the files are up to date")] = False,
    folder: Annotated[Path, typer.Option(help="the checkout")] = Path("."),
) -> None:
    """Write the config's JSON schema and reference page from the model that defines them."""
    from softlabels.config.reference import reference_files

    stale = []
    for name, text in reference_files(folder).items():
        path = folder / name
        if not path.exists() or read_small_text(path) != text:
            stale.append(name)
            if not check:
                write_atomically(path, text)
    if check and stale:
        raise InputError(f"{', '.join(stale)}: out of date. Run 'python -m softlabels reference'")
    print("up to date" if not stale else f"written: {', '.join(stale)}")
