"""The two third-party engines whose maps published results were made with: FastGeodis and GeodisTK.

Both make a fixed number of iterations and prove nothing; `softlabels.geodesic.engines` says how far they are off.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from softlabels._shared.cpus import usable_cpus
from softlabels.errors import DeviceError
from softlabels.geodesic._problem import Problem

#: Both start from this value instead of inf, and leave it where no seed can be reached.
FAR = np.float32(1e10)

#: Names the interpreter that has GeodisTK.
GEODISTK_VARIABLE = "SOFTLABELS_GEODISTK_PYTHON"
_GEODISTK_REMEDY = (
    f"engine 'geodistk' needs an interpreter with GeodisTK 0.1.7 and numpy < 2: make one from envs/geodistk.yaml (in a "
    f"checkout, `make .venv-geodistk/.ready`), and set {GEODISTK_VARIABLE} to its python"
)


def solve_with_fastgeodis(
    problem: Problem, lamb: float, iterations: int, device: str, n_threads: int | None
) -> tuple[NDArray[np.float32], str]:
    """Return FastGeodis' maps (C, D, H, W) and its version; one class at a time, as it asks for.

    Parameters
    ----------
    problem : Problem
        Without a domain; of its step cost only the spacing counts.
    lamb : float
    iterations : int
    device : str
        "cpu", "cuda" or "cuda:<index>".
    n_threads : int or None
        Threads of torch, and of FastGeodis with it.

    Raises
    ------
    DeviceError
        If the package or the device is missing, or FastGeodis fails.
    """
    try:
        import torch
        from FastGeodis import generalised_geodesic3d
    except ImportError as error:
        raise DeviceError(
            f"engine fastgeodis: {error}; it needs torch and FastGeodis in this interpreter: "
            "pip install --no-build-isolation FastGeodis==1.0.5 after torch, or `make test` builds it"
        ) from error
    on_cuda = device == "cuda" or device.startswith("cuda:")
    if on_cuda and not torch.cuda.is_available():
        raise DeviceError(f"engine fastgeodis: got device {device!r}, but torch sees no CUDA device; use device 'cpu'")
    if not on_cuda and device != "cpu":
        raise DeviceError(f"device: got {device!r}, expected 'cpu', 'cuda' or 'cuda:<index>'")
    image = torch.from_numpy(np.array(problem.image))[None].to(device)
    spacing = list(problem.spacing)
    maps = np.empty(problem.seeds.shape, np.float32)
    with _torch_threads(torch, n_threads):
        for seeds, out in zip(problem.seeds, maps, strict=True):
            mask = torch.from_numpy((~seeds).astype(np.float32))[None, None].to(device)
            try:
                found = generalised_geodesic3d(image, mask, spacing, float(FAR), lamb, iterations)
            except RuntimeError as error:
                reason = str(error).splitlines()[0]
                raise DeviceError(
                    f"engine fastgeodis: failed on {device} with {reason!r}; build FastGeodis with CUDA, "
                    "free memory, or use engine 'softlabels'"
                ) from error
            out[...] = found[0, 0].cpu().numpy()
    return maps, version("FastGeodis")


@contextlib.contextmanager
def _torch_threads(torch: Any, n_threads: int | None) -> Iterator[None]:
    """Let torch, and FastGeodis with it, use `n_threads` for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(n_threads or usable_cpus())
    try:
        yield
    finally:
        torch.set_num_threads(before)


def solve_with_geodistk(
    problem: Problem, lamb: float, iterations: int, device: str, python: str | Path | None = None
) -> tuple[NDArray[np.float32], str]:
    """Return GeodisTK's maps (C, D, H, W) and its version, computed by another interpreter.

    Parameters
    ----------
    problem : Problem
        Without a domain; of its step cost only the spacing counts.
    lamb : float
    iterations : int
    device : str
        "cpu".
    python : path, optional
        The interpreter that has GeodisTK; by default what SOFTLABELS_GEODISTK_PYTHON names.

    Raises
    ------
    DeviceError
        If the interpreter is missing, or GeodisTK fails in it.
    """
    if device != "cpu":
        raise DeviceError(f"engine geodistk: got device {device!r}, but it runs on 'cpu' only; set device 'cpu'")
    interpreter = _geodistk_interpreter(python)
    worker = Path(__file__).with_name("_geodistk_worker.py")
    with tempfile.TemporaryDirectory(prefix="softlabels-geodistk-") as folder:
        asked, answer = Path(folder, "asked.npz"), Path(folder, "answer.npz")
        np.savez(
            asked, image=problem.image, seeds=problem.seeds, spacing=problem.spacing, lamb=lamb, iterations=iterations
        )
        # -I: neither this process' PYTHONPATH nor this folder may reach an interpreter with another numpy.
        command = [str(interpreter), "-I", str(worker), str(asked), str(answer)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
            raise DeviceError(f"engine geodistk: {interpreter} failed with {last!r}; {_GEODISTK_REMEDY}")
        with np.load(answer) as found:
            return found["distance"], str(found["version"])


def _geodistk_interpreter(python: str | Path | None) -> Path:
    """Return the interpreter for GeodisTK: the argument, else what the variable names."""
    named = python or os.environ.get(GEODISTK_VARIABLE)
    if not named:
        raise DeviceError(f"engine geodistk: {GEODISTK_VARIABLE} is not set; {_GEODISTK_REMEDY}")
    if not Path(named).is_file():
        raise DeviceError(f"engine geodistk: no interpreter at {named}; {_GEODISTK_REMEDY}")
    return Path(named)
