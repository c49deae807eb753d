"""Commands that evaluate results or refine those of a network: rank, refine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from softlabels.cli.app import DEFAULT_CONFIG, CaseId, ConfigPath, Project, app
from softlabels.errors import InputError


@app.command(rich_help_panel="Evaluate and refine")
def rank(
    case: CaseId,
    reference: Annotated[list[Path], typer.Argument(help="the soft reference: one map per class, or all in one file")],
    config: ConfigPath = DEFAULT_CONFIG,
    output: Annotated[Path | None, typer.Option(help="folder for rank.tsv and rank.png; default: the case's")] = None,
) -> None:
    """Rank the targets of a case by their distance from a soft reference, such as the mean of raters.

    Give the maps in the order of the first target's classes; the map of the background may be omitted.
    """
    from softlabels.evaluation.candidates import candidates
    from softlabels.evaluation.plot import write_plot
    from softlabels.evaluation.rank import rank as ranked_by_score
    from softlabels.evaluation.reference import read_reference
    from softlabels.evaluation.table import ranking_table, write_table
    from softlabels.view.entries import case_entries

    project = Project.load(config)
    case_id = project.case(case).id
    entries = case_entries(project.config, project.plan, case_id)
    truth = read_reference(reference, entries.case.grid)
    soft_labels, left_out = candidates({name: one.target for name, one in entries.targets.items()}, len(truth))
    ranked = ranked_by_score(soft_labels, truth)
    folder = output or project.results / case_id
    folder.mkdir(parents=True, exist_ok=True)
    write_table(ranked, folder / "rank.tsv")
    write_plot(ranked, folder / "rank.png")
    print(ranking_table(ranked), end="")
    for name, why in left_out.items():
        print(f"not ranked: {name}: {why}")
    print(folder / "rank.png")


@app.command(rich_help_panel="Evaluate and refine")
def refine(
    probabilities: Annotated[
        list[Path],
        typer.Argument(help="of a network: an nnU-Net .npz, a NIfTI with a channel per class, or one per class"),
    ],
    image: Annotated[
        list[Path], typer.Option(help="of the same case, on the same grid; repeat it for several channels")
    ],
    output: Annotated[Path, typer.Option(help="the refined probabilities: .nii.gz, .nii or .npz")],
    labels: Annotated[Path | None, typer.Option(help="also write the hard labels, as NIfTI")] = None,
    window_mm: Annotated[float | None, typer.Option(help="default: twice the smallest voxel side")] = None,
    rho: Annotated[float, typer.Option(help="weight of the noise: higher values trust the image less")] = 3.0,
    temperature: Annotated[float, typer.Option(help="above 1 makes the network less certain before refining")] = 1.0,
    fit: Annotated[
        Path | None,
        typer.Option(help="fit the temperature on the cases of a sheet with the columns probabilities and reference"),
    ] = None,
    regions: Annotated[bool, typer.Option("--regions", help="classes may overlap (sigmoid)")] = False,
    threads: Annotated[int, typer.Option(min=1, help="number of threads")] = 1,
) -> None:
    """Refine a network's probabilities with the image, for voxels that contain several tissues.

    Where the image does not distinguish the tissues, the probabilities do not change. See docs/methods.md.
    """
    from softlabels.evaluation.probabilities import read_image, read_pairs, read_probabilities, write_npz
    from softlabels.evaluation.refine import fit_temperature, hard_labels
    from softlabels.evaluation.refine import refine as refined_probabilities
    from softlabels.view.export import write_nifti

    if fit is not None and temperature != 1.0:
        raise InputError("refine: got --fit and --temperature, expected one of them. Omit the other")
    if fit is not None:
        pairs = read_pairs(fit)
        temperature = fit_temperature(pairs, is_overlapping=regions)
        print(f"temperature {temperature:.3g}, fitted on {len(pairs)} cases")
    channels, grid = read_image(image)
    found = refined_probabilities(
        channels,
        read_probabilities(probabilities, grid),
        grid.spacing,
        window_mm=window_mm,
        rho=rho,
        temperature=temperature,
        is_overlapping=regions,
        threads=threads,
    )
    print(write_npz(output, found) if output.suffix == ".npz" else write_nifti(found, grid, output))
    if labels is not None:
        print(write_nifti(hard_labels(found, is_overlapping=regions), grid, labels))
