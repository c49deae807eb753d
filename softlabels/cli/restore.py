"""The command that returns a prediction to the grid of a case's files. It needs an index, and no project."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from softlabels.cli.app import app
from softlabels.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from softlabels.grid import Grid


@app.command(rich_help_panel="View and export")
def restore(
    case: Annotated[str, typer.Argument(help="a case id in the index")],
    prediction: Annotated[Path, typer.Argument(help="on the prepared grid: .npy, .npz or an image file")],
    output: Annotated[Path, typer.Option("--output", "-o", help="ends in .nii.gz or .nii")],
    index: Annotated[Path, typer.Option(help="the index.json that the network was trained with")] = Path(
        "results/index.json"
    ),
    target: Annotated[str | None, typer.Option(help="what it was trained on, if the index has several targets")] = None,
    store: Annotated[Path | None, typer.Option(help="where the store is now; default: where the index says")] = None,
    probabilities: Annotated[bool, typer.Option("--probabilities", help="write all channels, not labels")] = False,
    like: Annotated[Path | None, typer.Option(help="an image of the case, for an index that lacks its grid")] = None,
) -> None:
    """Return a network's prediction to the scanner's grid: undo crop and resampling, and write NIfTI.

    A prediction has a channel for each class of the target, in their order, or is a volume of label values. Channels
    are interpolated linearly and the largest wins; outside of the crop is background.

    Examples
    --------
        softlabels restore case_0001 case_0001.npy -o case_0001_labels.nii.gz
    """
    from softlabels.cohort.restore import CaseSpace

    files = None if like is None else _grid_of(like)
    space = CaseSpace.of(index, case, target=target, store=store, files=files)
    found = _read_prediction(prediction, space.prepared)
    write = space.write_probabilities if probabilities else space.write_labels
    output.parent.mkdir(parents=True, exist_ok=True)
    print(write(found, output))


def _grid_of(path: Path) -> Grid:
    """Return the grid of an image file from its header."""
    from softlabels.grid import Grid
    from softlabels.inputs.volume import read_header

    header = read_header(path)
    return Grid.from_xyz(header.size_xyz, header.affine, header.spacing_xyz)


def _read_prediction(path: Path, prepared: Grid) -> NDArray[Any]:
    """Return the array in a file; an image file must be on the prepared grid."""
    import numpy as np

    if path.suffix in (".npy", ".npz"):
        from softlabels._shared.numpy_files import read_array

        return read_array(path)
    from softlabels.inputs.volume import read_volume

    volume = read_volume(path)
    if differences := volume.grid.differences(prepared):
        raise InputError(f"{path}: is not on the prepared grid of the case: {'; '.join(differences)}")
    is_integral = volume.values.ndim == 3 and bool((volume.values == np.rint(volume.values)).all())
    return volume.values.astype(np.int64) if is_integral else volume.values
