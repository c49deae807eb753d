"""The CUDA engine: the same maps as the CPU's, bit for bit.

The kernels say what a tile does; here is the order of launches. Tiles with something new around them are awake and on a
list; a round relaxes the tiles on the list, of all classes, and lists those that can see what changed. The map is
finished when a round lists no tile.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from softlabels.errors import CertificateError, DeviceError
from softlabels.geodesic._certify import Certificate
from softlabels.geodesic._cuda_device import CudaDevice, Pointer
from softlabels.geodesic._problem import Problem, Solution

#: Rounds between two looks at the counters: a look costs a round trip, an idle round next to nothing. Even, so that
#: after a look the lists have their places again.
_ROUNDS_PER_LOOK = 8
_BLOCK = 256
#: Blocks of a round by processor: more than work at a time, so that those whose tiles are done early do not wait.
_BLOCKS_PER_PROCESSOR = 32

#: Side of a tile by the most channels whose tiles, with halo, fit in 48 KiB of shared memory beside the distance's.
_TILE_SIDES = {1: 16, 11: 8, 55: 4}


class Image(NamedTuple):
    """What all classes share on a device: intensities times the metric's scale, NaN in walls, and step lengths."""

    scaled: Pointer
    lengths: Pointer


def solve_on_cuda(problem: Problem, device: str = "cuda") -> Solution:
    """Return the maps (C, D, H, W), the rounds made and the tiles relaxed, over all classes."""
    return _solve_classes(problem, device, lambda maps: False)[0]


def solve_and_certify_on_cuda(
    problem: Problem, device: str = "cuda", is_wanted: Callable[[NDArray[np.float32]], bool] = lambda maps: True
) -> tuple[Solution, list[Certificate]]:
    """Return what `solve_on_cuda` does and a certificate a class, for the maps on the device before they are copied.

    Classes that are solved together have no certificate where `is_wanted` returns False for a copy of their maps.
    """
    solution, found = _solve_classes(problem, device, is_wanted)
    return solution, _certificates(found, solution.n_rounds, solution.n_visits)


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
        batches, image = _batches(problem, gpu), upload_image(problem, gpu)
        for classes in batches:
            maps, seeds = gpu.upload(distance[classes]), gpu.upload(problem.seeds[classes])
            found += _count_faults(_part(problem, classes), image, seeds, maps, gpu).tolist()
            gpu.free(maps, seeds)
    return _certificates(found, iterations, tile_visits)


def _certificates(found: list[list[int]], iterations: int | None, tile_visits: int | None) -> list[Certificate]:
    """Return the certificate of each class for what was counted in it."""
    return [
        Certificate(n_violated, n_unattained, n_unreachable, iterations, tile_visits)
        for n_violated, n_unattained, n_unreachable in found
    ]


def _solve_classes(
    problem: Problem, device: str, is_wanted: Callable[[NDArray[np.float32]], bool]
) -> tuple[Solution, list[list[int]]]:
    """Return the maps of all classes and, of those whose certificate is wanted, what it counts in each."""
    maps, n_rounds, n_visits = np.empty(problem.seeds.shape, np.float32), 0, 0
    found: list[list[int]] = []
    with CudaDevice(device, macros(problem)) as gpu:
        batches, image = _batches(problem, gpu), upload_image(problem, gpu)
        for classes in batches:
            part = _part(problem, classes)
            seeds = gpu.upload(part.seeds)
            distance, rounds, visits = solve_from(part, image, seeds, gpu)
            maps[classes] = gpu.download(distance, part.seeds.shape, np.float32)
            if is_wanted(maps[classes]):
                found += _count_faults(part, image, seeds, distance, gpu).tolist()
            gpu.free(seeds, distance)
            n_rounds, n_visits = n_rounds + rounds, n_visits + visits
    return Solution(maps, n_rounds, n_visits), found


def _part(problem: Problem, classes: slice) -> Problem:
    """Return the problem of some of the classes."""
    return dataclasses.replace(problem, seeds=problem.seeds[classes])


def _batches(problem: Problem, gpu: CudaDevice) -> list[slice]:
    """Return which classes go together: all, or as many as the device's memory holds beside the image."""
    n_voxels, n_classes = int(np.prod(problem.shape)), len(problem.seeds)
    # A class takes 4 bytes a voxel for the map and 1 each for seeds and proof, or for seeds and lists of tiles; a tenth
    # is left for the driver.
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


def upload_image(problem: Problem, gpu: CudaDevice) -> Image:
    """Return the image and the step lengths on the device."""
    n_voxels = int(np.prod(problem.shape))
    image = gpu.upload(problem.image)
    domain = None if problem.domain is None else gpu.upload(problem.domain)
    grid = _blocks(n_voxels, len(problem.image))
    gpu.launch("scale_image", grid, _BLOCK, image, domain, problem.cost.scale, np.int64(n_voxels))
    if domain is not None:
        gpu.free(domain)
    return Image(image, gpu.upload(problem.cost.lengths))


def solve_from(problem: Problem, image: Image, seeds: Pointer, gpu: CudaDevice) -> tuple[Pointer, int, int]:
    """Return the maps on the device from seeds on it, the rounds made and the tiles relaxed."""
    n_classes, n_voxels = len(problem.seeds), int(np.prod(problem.shape))
    grid = _blocks(n_voxels, n_classes)
    # Nothing longer than the cap can ever be below the float next above it, so that value serves as "no path yet".
    far = np.nextafter(problem.cap, np.float32(np.inf))
    distance = gpu.empty(4 * n_classes * n_voxels)
    gpu.launch("start", grid, _BLOCK, image.scaled, seeds, far, np.int64(n_voxels), distance)
    n_rounds, n_visits = _relax(problem, image, far, distance, gpu)
    gpu.launch("finish", grid, _BLOCK, distance, far, np.int64(n_voxels))
    return distance, n_rounds, n_visits


def _relax(problem: Problem, image: Image, far: np.float32, distance: Pointer, gpu: CudaDevice) -> tuple[int, int]:
    """Relax the maps on the device to their fixpoint; return the rounds made and the tiles relaxed."""
    side, n_voxels = macros(problem)["TILE"], int(np.prod(problem.shape))
    n_tiles = int(np.prod([-(-size // side) for size in problem.shape]))
    n_listed = len(problem.seeds) * n_tiles
    lists = [gpu.upload(np.arange(n_listed)), gpu.empty(8 * n_listed)]
    flags = [gpu.upload(np.full(n_listed, flag, np.int32)) for flag in (1, 0)]
    # Of the round before the first and of each round: the tiles that it listed. Of each round: the tiles it relaxed.
    n_awake, none = np.zeros(_ROUNDS_PER_LOOK + 1, np.uint64), np.zeros(_ROUNDS_PER_LOOK, np.uint64)
    n_awake[0] = n_listed
    awake, visited = gpu.upload(n_awake), gpu.upload(none)
    shared = (image.scaled, distance, image.lengths, *_weights(problem), far, *_sizes(problem), np.int64(n_tiles))
    grid = (min(n_listed, _BLOCKS_PER_PROCESSOR * gpu.n_processors), 1)
    n_rounds = n_visits = 0
    while n_awake[0]:
        # After k rounds every path is done that crosses k tile borders, and no shortest path visits a voxel twice.
        if n_rounds > n_voxels + _ROUNDS_PER_LOOK:
            raise CertificateError(
                f"CUDA engine: got tiles that still change after {n_rounds} rounds over {n_voxels} voxels, expected an "
                "end by then; this is a fault of the kernels or the device: please report it, and use device 'cpu'"
            )
        for index in range(_ROUNDS_PER_LOOK):
            now, then = index % 2, 1 - index % 2
            tiles = (lists[now], flags[now], lists[then], flags[then])
            gpu.launch("relax", grid, side**2, *shared, *tiles, awake, visited, np.int32(index))
        visits = gpu.download(visited, _ROUNDS_PER_LOOK, np.uint64)
        n_rounds += int(np.count_nonzero(visits))
        n_visits += int(visits.sum())
        n_awake[0] = gpu.download(awake, _ROUNDS_PER_LOOK + 1, np.uint64)[-1]
        gpu.write(awake, n_awake)
        gpu.write(visited, none)
    gpu.free(*lists, *flags, awake, visited)
    return n_rounds, n_visits


def _count_faults(
    problem: Problem, image: Image, seeds: Pointer, distance: Pointer, gpu: CudaDevice
) -> NDArray[np.uint64]:
    """Return the numbers (C, 3) of violated, unattained and unreachable voxels in maps on the device."""
    n_classes, n_voxels = len(problem.seeds), int(np.prod(problem.shape))
    grid, sizes, weights = _blocks(n_voxels, n_classes), _sizes(problem), _weights(problem)
    attained = gpu.empty(n_classes * n_voxels)
    counters = gpu.upload(np.zeros((n_classes, 3), np.uint64))
    judged = (image.scaled, distance, seeds, image.lengths, *weights, problem.cap, *sizes, attained, counters)
    gpu.launch("judge", grid, _BLOCK, *judged)
    none = np.zeros(1, np.uint64)
    grown = gpu.upload(none)
    flooded = (image.scaled, distance, image.lengths, *weights, *sizes, attained, grown)
    n_grown = np.uint64(1)
    while n_grown:
        for _ in range(_ROUNDS_PER_LOOK):
            gpu.launch("flood", grid, _BLOCK, *flooded)
        (n_grown,) = gpu.download(grown, 1, np.uint64)
        gpu.write(grown, none)
    gpu.launch("count_unattained", grid, _BLOCK, image.scaled, distance, attained, *sizes, counters)
    found = gpu.download(counters, (n_classes, 3), np.uint64)
    gpu.free(attained, counters, grown)
    return found


def _weights(problem: Problem) -> tuple[Any, Any]:
    """Return the weights of a step's length and of its intensity as the kernels take them."""
    return problem.cost.keep, problem.cost.lamb


def _sizes(problem: Problem) -> list[np.int32]:
    """Return D, H and W as the kernels take them."""
    return [np.int32(size) for size in problem.shape]


def _blocks(n_voxels: int, n_maps: int) -> tuple[int, int]:
    """Return the grid of a kernel with one thread a voxel."""
    return -(-n_voxels // _BLOCK), n_maps
