"""The command that starts a project."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from softlabels._shared.counts import bounded, counted
from softlabels._shared.files import write_atomically
from softlabels.cli.app import app, progress
from softlabels.errors import InputError

if TYPE_CHECKING:
    from softlabels.inputs.importers import Dataset
    from softlabels.inputs.sheet import Case


@app.command(rich_help_panel="Start a project")
def init(
    folder: Annotated[Path, typer.Argument(help="where to write config.yaml and cases.tsv")] = Path("."),
    nnunet: Annotated[Path | None, typer.Option(help="a raw nnU-Net data set with the cases and labels")] = None,
    nnunet_preprocessed: Annotated[
        Path | None, typer.Option(help="nnU-Net's preprocessed arrays: the data folder of one configuration")
    ] = None,
    pairs: Annotated[
        tuple[str, str] | None,
        typer.Option(
            metavar="IMAGES LABELS",
            help="two patterns, in quotes: 'images/{case}_{channel}.nii.gz' 'masks/{case}.nii.gz'; * and ** match any",
        ),
    ] = None,
    bids: Annotated[Path | None, typer.Option(help="a BIDS data set with masks or segmentations")] = None,
    msd: Annotated[Path | None, typer.Option(help="a Medical Segmentation Decathlon task")] = None,
    monai: Annotated[Path | None, typer.Option(help="a MONAI datalist (JSON)")] = None,
    brats: Annotated[Path | None, typer.Option(help="a folder of BraTS cases")] = None,
    brats_labels: Annotated[
        str | None, typer.Option(help="release of BraTS label values: 2012-2022 or 2023; --labels for all others")
    ] = None,
    labels: Annotated[
        str | None, typer.Option(help="label values, in place of those found: 'whole=1,2,3 core=1,3 enhancing=3'")
    ] = None,
    channels: Annotated[
        str | None, typer.Option(help="channels to take, with --pairs, --bids or --monai: 'T1w,acq-tse_T2w'")
    ] = None,
    label_file: Annotated[str | None, typer.Option(help="with --bids: which label files: 'label-lesion_mask'")] = None,
    spacing: Annotated[str | None, typer.Option(help="voxel size of PNG, TIFF and NumPy files: 'z y x' in mm")] = None,
    preview: Annotated[bool, typer.Option(help="only show what would be taken; write nothing")] = False,
    profile: Annotated[str | None, typer.Option(help="install this Snakemake profile for your user: slurm")] = None,
    account: Annotated[str | None, typer.Option(help="with --profile slurm: your Slurm account")] = None,
    partition: Annotated[str | None, typer.Option(help="with --profile slurm: the partition for CPU jobs")] = None,
    gpu_partition: Annotated[str | None, typer.Option(help="with --profile slurm: the partition for GPU jobs")] = None,
) -> None:
    """Start a project: write config.yaml, cases.tsv and a Snakefile, from a data set if one is given.

    Examples
    --------
        softlabels init my-project --nnunet /data/nnUNet_raw/Dataset042_Kidney

        softlabels init my-project --pairs 'images/{case}_{channel}.nii.gz' 'masks/{case}.nii.gz' --preview

        softlabels init my-project --bids /data/study --channels T1w,FLAIR --label-file label-lesion_mask

        softlabels init my-project --brats /data/GLI --labels 'netc=1 snfh=2 et=3 rc=4'

        softlabels init --profile slurm --account LAB --partition CPU
    """
    from softlabels.inputs import importers

    if profile:
        from softlabels.monitor.profiles import install_profile

        where = install_profile(profile, account, partition, gpu_partition)
        print(f"{where}: profile installed. Next: softlabels run --profile {profile}, in a project's folder")
        return
    given = importers.given_labels(labels) if labels else None
    named = [name.strip() for name in channels.split(",")] if channels else None
    sources: dict[str, Callable[[], Dataset] | None] = {
        "--nnunet": partial(importers.import_nnunet, nnunet) if nnunet else None,
        "--nnunet-preprocessed": (
            partial(importers.import_nnunet_preprocessed, nnunet_preprocessed) if nnunet_preprocessed else None
        ),
        "--pairs": partial(importers.import_pairs, *pairs, named) if pairs else None,
        "--bids": partial(importers.import_bids, bids, named, label_file) if bids else None,
        "--msd": partial(importers.import_msd, msd) if msd else None,
        "--monai": partial(importers.import_datalist, monai, named) if monai else None,
        "--brats": partial(importers.import_brats, brats, given or brats_labels) if brats else None,
    }
    chosen = [name for name, source in sources.items() if source]
    if len(chosen) > 1:
        raise InputError(f"init: got several data sets, {' and '.join(chosen)}. Give one of {', '.join(sources)}")
    if brats_labels and not brats:
        raise InputError("init: got --brats-labels without --brats. Give the folder of BraTS cases too")
    source = sources[chosen[0]] if chosen else None
    if source is None:
        dataset = importers.Dataset([], named or ["image"], given or {"background": 0, "foreground": 1})
    else:
        dataset = _completed(source(), given, spacing)
        _show(dataset)
    if preview:
        return
    _write(folder, dataset, is_nnunet=nnunet_preprocessed is not None)


def _completed(dataset: Dataset, given: dict[str, int | list[int]] | None, spacing: str | None) -> Dataset:
    """Return a data set with what it does not say itself: voxel sizes, names of channels, labels."""
    from dataclasses import replace

    from softlabels.inputs.importers import found_labels, segment_colours
    from softlabels.inputs.sheet import parsed_spacing
    from softlabels.inputs.volume import has_voxel_size, read_header

    cases = dataset.cases
    if any(case.spacing is None and not has_voxel_size(case.images[0]) for case in cases):
        size = parsed_spacing(spacing or "")
        if size is None:
            raise InputError(
                f"init: {cases[0].images[0]} has no voxel size. Give it with --spacing 'z y x' in mm; for pictures, "
                "'1 1 1'"
            )
        cases = [replace(case, spacing=case.spacing or size) for case in cases]
    elif spacing:
        raise InputError("init: got --spacing, but the files have a voxel size of their own. Leave it out")
    channels = dataset.channels
    if not channels:
        n = read_header(cases[0].images[0], cases[0].spacing).n_channels
        channels = ["image"] if n == 1 else [f"image_{i}" for i in range(n)]
    labels = given or dataset.labels
    if not labels:
        labels = found_labels(cases, lambda items, n: progress(items, "Reading labels", n))
    colours = segment_colours(cases, labels)
    return dataset._replace(cases=cases, channels=channels, labels=labels, colours=colours)


def _show(dataset: Dataset) -> None:
    """Print what was found and what was left out."""
    for line in bounded(dataset.left_out):
        print(f"left out  {line}")
    renamed = [f"{old!r} is now {new!r}" for new, old in dataset.originals.items()]
    for line in bounded(renamed):
        print(f"renamed   case {line}")
    for case in dataset.cases[:3]:
        print(f"case      {case.id}: {', '.join(Path(path).name for path in (*case.images, case.label, *case.raters))}")
    if len(dataset.cases) > 3:
        print(f"          and {len(dataset.cases) - 3} more cases")
    print(f"channels  {', '.join(dataset.channels)}")
    print(f"labels    {', '.join(f'{name}={value}' for name, value in dataset.labels.items())}")


def _write(folder: Path, dataset: Dataset, *, is_nnunet: bool) -> None:
    """Write the files of a project, or nothing if one of them exists."""
    import yaml

    from softlabels._shared.cpus import usable_cpus
    from softlabels.classes import LabelSet
    from softlabels.config import parse_config
    from softlabels.config.template import config_template
    from softlabels.inputs.sheet import write_sheet
    from softlabels.monitor.deployment import project_files
    from softlabels.pipeline.cost import suggested_cases_per_job
    from softlabels.pipeline.plan import make_plan

    to_run = project_files()
    for path in (folder / name for name in ("config.yaml", "cases.tsv", *to_run)):
        if path.exists():
            raise InputError(f"{path}: already exists. Choose another folder, or delete it first")
    folder.mkdir(parents=True, exist_ok=True)
    cases: list[Case] = dataset.cases
    text = config_template(list(dataset.channels), dataset.labels, is_nnunet=is_nnunet, colours=dataset.colours)
    if cases:
        parsed = parse_config(yaml.safe_load(text))
        suggested = suggested_cases_per_job(
            make_plan(parsed), cases, stages_per_job=parsed.job_stages, n_cpus=usable_cpus()
        )
        text = config_template(
            list(dataset.channels), dataset.labels, suggested, is_nnunet=is_nnunet, colours=dataset.colours
        )
    write_atomically(folder / "config.yaml", text)
    write_sheet(cases, folder / "cases.tsv", dataset.channels, dataset.originals)
    for name, content in to_run.items():
        write_atomically(folder / name, content)
    there = "" if folder.resolve() == Path.cwd() else f" -C {shlex.quote(str(folder))}"
    if LabelSet.parse(dataset.labels).is_overlapping:
        print("note      GeoLS needs classes that exclude each other, and these overlap: config.yaml begins with SiNG")
    print(f"{folder}: {counted(len(cases), 'case')} in cases.tsv; config.yaml and Snakefile written")
    print(f"Next: softlabels check{there}, then softlabels run{there}")
