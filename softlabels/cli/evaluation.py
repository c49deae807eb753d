"""The command that refines the probabilities of a network: refine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from softlabels.cli.app import app
from softlabels.errors import InputError


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

    Examples
    --------
        softlabels refine case_0001.npz --image case_0001_T1.nii.gz --output refined.nii.gz --labels labels.nii.gz

        softlabels refine case_0001.npz --image case_0001_T1.nii.gz --output refined.nii.gz --fit pairs.tsv
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
