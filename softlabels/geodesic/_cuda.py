"""The CUDA engine: the same maps as the CPU's, bit for bit.

The kernels say what a tile does; here is the order of launches. Tiles with something new around them are awake; a
round relaxes all of them, of all classes, and wakes those that can see what changed. The map is finished when a round
finds no tile awake.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from softlabels.errors import CertificateError, DeviceError
from softlabels.geodesic._certify import Certificate
from softlabels.geodesic._cuda_device import CudaDevice, Pointer
from softlabels.geodesic._problem import Problem, Solution

#: Rounds between two looks at the counters: a look costs a round trip, an idle round next to nothing.
_ROUNDS_PER_LOOK = 8
_BLOCK = 256

#: Side of a tile by the most channels whose tiles, with halo, fit in 48 KiB of shared memory beside the distance's.
_TILE_SIDES = {1: 16, 11: 8, 55: 4}


def solve_on_cuda(problem: Problem, device: str = "cuda") -> Solution:
    """Return the maps (C, D, H, W), the rounds made and the tiles relaxed, over all classes."""
    maps, n_rounds, n_visits = np.empty(problem.seeds.shape, np.float32), 0, 0
    with CudaDevice(device, macros(problem)) as gpu:
        for classes in _batches(problem, gpu):
            part = dataclasses.replace(problem, seeds=problem.seeds[classes])
            maps[classes], rounds, visits = _solve(part, gpu)
            n_rounds, n_visits = n_rounds + rounds, n_visits + visits
            gpu.free()
    return Solution(maps, n_rounds, n_visits)


def certify_on_cuda(
    problem: Problem,
    distance: NDArray[np.float32],
    device: str = "cuda",
    iterations: int | None = None,
    tile_visits: int | None = None,
) -> list[Certificate]:
    """Return one certificate a class for `distance` of shape (C, D, H, W), as `_certify.certify_problem` does."""
    found: list[list[int]] = []
    distance = np.asarray(distance, np.float32)
    with CudaDevice(device, macros(problem)) as gpu:
        for classes in _batches(problem, gpu):
            part = dataclasses.replace(problem, seeds=problem.seeds[classes])
            found += _count_faults(part, distance[classes], gpu).tolist()
            gpu.free()
    return [
        Certificate(n_violated, n_unattained, n_unreachable, iterations, tile_visits)
        for n_violated, n_unattained, n_unreachable in found
    ]


def _batches(problem: Problem, gpu: CudaDevice) -> list[slice]:
    """Return which classes go together: all, or as many as the device's memory holds."""
    n_voxels, n_classes = int(np.prod(problem.shape)), len(problem.seeds)
    # A class takes 4 bytes a voxel for the map and 1 each for seeds and proof; a tenth is left for the driver.
    room = 0.9 * gpu.free_bytes() - n_voxels * (4 * len(problem.image) + 1)
    n_together = int(min(max(room // (6 * n_voxels), 1), n_classes))
    return [slice(first, first + n_together) for first in range(0, n_classes, n_together)]


def macros(problem: Problem) -> dict[str, int]:
    """Return what the kernels are compiled for."""
    n_channels = len(problem.image)
    for most, side in _TILE_SIDES.items():
        if n_channels <= most:
            return {"FORM": problem.cost.form, "CHANNELS": n_channels, "TILE": side}
    raise DeviceError(
        f"device 'cuda': got {n_channels} channels, expected at most {max(_TILE_SIDES)} in one vector image; "
        "solve fewer channels at a time or use device 'cpu'"
    )


def _solve(problem: Problem, gpu: CudaDevice) -> Solution:
    """Return the answer from a device that is open."""
    # Nothing longer than the cap can ever be below the float next above it, so that value serves as "no path yet".
    far = np.nextafter(problem.cap, np.float32(np.inf))
    distance, arguments = _start(problem, far, gpu)
    n_rounds, n_visits = _relax(problem, arguments, gpu)
    maps = gpu.download(distance, problem.seeds.shape, np.float32)
    maps[maps == far] = np.inf
    return Solution(maps, n_rounds, n_visits)


def _start(problem: Problem, far: np.float32, gpu: CudaDevice) -> tuple[Pointer, tuple[Any, ...]]:
    """Return the maps on the device, 0 at seeds and `far` elsewhere, and the first arguments of kernel `relax`."""
    n_classes, n_voxels = len(problem.seeds), int(np.prod(problem.shape))
    scaled, lengths = _scaled(problem, gpu), gpu.upload(problem.cost.lengths)
    seeds, distance = gpu.upload(problem.seeds), gpu.empty(4 * n_classes * n_voxels)
    gpu.launch("start", _blocks(n_voxels, n_classes), _BLOCK, scaled, seeds, far, np.int64(n_voxels), distance)
    gpu.free(seeds)
    return distance, (scaled, distance, lengths, problem.cost.keep, problem.cost.lamb, far, *_sizes(problem))


def _relax(problem: Problem, arguments: tuple[Any, ...], gpu: CudaDevice) -> tuple[int, int]:
    """Relax the maps on the device to their fixpoint; return the rounds made and the tiles relaxed."""
    side = macros(problem)["TILE"]
    n_classes, n_voxels = len(problem.seeds), int(np.prod(problem.shape))
    n_tiles = int(np.prod([-(-size // side) for size in problem.shape]))
    awake, wake = (gpu.upload(np.full((n_classes, n_tiles), flag, np.uint8)) for flag in (1, 0))
    n_rounds = n_visits = 0
    none = np.zeros(_ROUNDS_PER_LOOK, np.uint32)
    counters = gpu.upload(none)
    while True:
        for index in range(_ROUNDS_PER_LOOK):
            gpu.launch("relax", (n_tiles, n_classes), side**2, *arguments, awake, wake, counters, np.int32(index))
            awake, wake = wake, awake
        visits = gpu.download(counters, _ROUNDS_PER_LOOK, np.uint32)
        gpu.write(counters, none)
        n_rounds += int(np.count_nonzero(visits))
        n_visits += int(visits.sum())
        if visits[-1] == 0:
            return n_rounds, n_visits
        # After k rounds every path is done that crosses k tile borders, and no shortest path visits a voxel twice.
        if n_rounds > n_voxels + _ROUNDS_PER_LOOK:
            raise CertificateError(
                f"CUDA engine: got tiles that still change after {n_rounds} rounds over {n_voxels} voxels, expected an "
                "end by then; this is a fault of the kernels or the device: please report it, and use device 'cpu'"
            )


def _count_faults(problem: Problem, distance: NDArray[np.float32], gpu: CudaDevice) -> NDArray[np.uint64]:
    """Return the numbers (C, 3) of violated, unattained and unreachable voxels."""
    n_classes, n_voxels = len(problem.seeds), int(np.prod(problem.shape))
    grid, sizes, scaled = _blocks(n_voxels, n_classes), _sizes(problem), _scaled(problem, gpu)
    lengths, weights = gpu.upload(problem.cost.lengths), (problem.cost.keep, problem.cost.lamb)
    maps, seeds, attained = gpu.upload(distance), gpu.upload(problem.seeds), gpu.empty(n_classes * n_voxels)
    counters = gpu.upload(np.zeros((n_classes, 3), np.uint64))
    gpu.launch("judge", grid, _BLOCK, scaled, maps, seeds, lengths, *weights, problem.cap, *sizes, attained, counters)
    none, n_grown = np.zeros(1, np.uint32), 1
    grown = gpu.upload(none)
    while n_grown:
        for _ in range(_ROUNDS_PER_LOOK):
            gpu.launch("flood", grid, _BLOCK, scaled, maps, lengths, *weights, *sizes, attained, grown)
        (n_grown,) = gpu.download(grown, 1, np.uint32)
        gpu.write(grown, none)
    gpu.launch("count_unattained", grid, _BLOCK, scaled, maps, attained, *sizes, counters)
    return gpu.download(counters, (n_classes, 3), np.uint64)


def _scaled(problem: Problem, gpu: CudaDevice) -> Pointer:
    """Return the intensities times the metric's scale on the device, NaN in walls."""
    n_voxels = int(np.prod(problem.shape))
    image = gpu.upload(problem.image)
    domain = None if problem.domain is None else gpu.upload(problem.domain)
    grid = _blocks(n_voxels, len(problem.image))
    gpu.launch("scale_image", grid, _BLOCK, image, domain, problem.cost.scale, np.int64(n_voxels))
    if domain is not None:
        gpu.free(domain)
    return image


def _sizes(problem: Problem) -> list[np.int32]:
    """Return D, H and W as the kernels take them."""
    return [np.int32(size) for size in problem.shape]


def _blocks(n_voxels: int, n_maps: int) -> tuple[int, int]:
    """Return the grid of a kernel with one thread a voxel."""
    return -(-n_voxels // _BLOCK), n_maps
