"""What methods share whose map of a class depends on that class alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from softlabels._shared.in_order import map_in_order
from softlabels._shared.rate import Rate
from softlabels.errors import InputError
from softlabels.methods.arrays import TargetInputs, TargetMap
from softlabels.methods.base import Method


@dataclass(frozen=True)
class ClassInputs:
    """What a method reads of one class of a case; `TargetInputs` says what each is.

    Parameters
    ----------
    name : str
    mask : (D, H, W) bool array
    spacing : 3 floats
    image : (M, D, H, W) float32 array, optional
    domain : (D, H, W) bool array, optional
    seeds : (D, H, W) bool array, optional
    read_distance : callable, optional
        Returns the (M, D, H, W) float32 distances of the class, which are read or solved only then.
    """

    name: str
    mask: NDArray[np.bool_]
    spacing: tuple[float, float, float]
    image: NDArray[np.float32] | None = None
    domain: NDArray[np.bool_] | None = None
    seeds: NDArray[np.bool_] | None = None
    read_distance: Callable[[], NDArray[np.float32]] | None = None

    @property
    def distance(self) -> NDArray[np.float32]:
        """The distances of the class."""
        if self.read_distance is None:
            raise InputError("distance: missing, and this method needs it")
        return self.read_distance()


@dataclass(frozen=True)
class ClassMap:
    """The map of one class.

    Parameters
    ----------
    values : (D, H, W) float32 array
    flags : list of str
        As of `TargetMap`.
    notes : dict
        Figures of this class; each becomes a list over classes in the notes of the target.
    """

    values: NDArray[np.float32]
    flags: list[str] = field(default_factory=list)
    notes: dict[str, Any] = field(default_factory=dict)


class MethodByClass(Method):
    """A method whose map of a class depends on that class alone. It implements `class_map` in the place of `soft_map`.

    Of many classes, the pipeline makes the maps one after another while it writes them, so that memory does not grow
    with their number.

    Attributes
    ----------
    in_threads : bool
        Whether as many classes as there are threads are computed at a time.
    by_class_cost : Rate
        Measured per voxel and class, of maps that are made one after another.
    """

    in_threads: ClassVar[bool] = False
    by_class_cost: ClassVar[Rate] = Rate(us=0.15, memory_bytes=0.3, disk_bytes=0.2, volume_bytes=100)

    def class_map(self, inputs: ClassInputs) -> ClassMap:
        """Return the map of one class."""
        raise NotImplementedError

    def soft_map(self, inputs: TargetInputs) -> TargetMap:
        """Return the maps of all classes."""
        values = np.empty(inputs.masks.shape, np.float32)
        flags: list[str] = []
        notes: list[dict[str, Any]] = []
        classes = [_of_class(inputs, index) for index in range(len(values))]
        for out, found in zip(values, self._maps(classes, inputs.threads), strict=True):
            out[...] = found.values
            flags += found.flags
            notes.append(found.notes)
        return TargetMap(values, flags, notes_of_target(notes))

    def compute_classes(self, classes: Iterable[ClassInputs], threads: int) -> list[ClassMap]:
        """Return the maps of some classes, checked as `compute` checks those of all.

        Raises
        ------
        InputError, CertificateError
            As `compute`. An error that is raised while distances are read is not the method's, and passes unchanged.
        """
        of_reading: list[InputError] = []
        try:
            found = list(self._maps([_noting_errors(one, of_reading) for one in classes], threads))
        except InputError as error:
            if error in of_reading:
                raise
            raise type(error)(f"method {self.name}: {error}") from error
        for one in found:
            self._check_range(float(one.values.min()), float(one.values.max()))
        return found

    def _maps(self, classes: Iterable[ClassInputs], threads: int) -> Iterator[ClassMap]:
        """Yield the map of each class."""
        if not self.in_threads:
            yield from map(self.class_map, classes)
            return
        with ThreadPoolExecutor(threads) as pool:
            yield from map_in_order(pool, self.class_map, classes, threads)

    @classmethod
    def check_declaration(cls) -> None:
        """Raise TypeError if the map is a distribution, which depends on all classes."""
        super().check_declaration()
        if cls.kind == "probability":
            raise TypeError(f"{cls.__name__} (method {cls.name!r}): a probability is not computed class by class")
        if cls.soft_map is not MethodByClass.soft_map:
            raise TypeError(f"{cls.__name__} (method {cls.name!r}): has a soft_map, expected class_map alone")


def notes_of_target(notes: Iterable[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Return the notes of a target from those of its classes in order; None for a class that has no such note.

    Examples
    --------
    >>> notes_of_target([{"tau": 1.0}, {"tau": 2.0}])
    {'tau': [1.0, 2.0]}
    >>> notes_of_target([{}, {"tau": 2.0}])
    {'tau': [None, 2.0]}
    """
    notes = list(notes)
    names = dict.fromkeys(name for one in notes for name in one)
    return {name: [one.get(name) for one in notes] for name in names}


def _noting_errors(inputs: ClassInputs, noted: list[InputError]) -> ClassInputs:
    """Return the inputs of a class that add to a list what is raised while its distances are read."""
    read = inputs.read_distance
    if read is None:
        return inputs

    def read_noting_errors() -> NDArray[np.float32]:
        """Return the distances of the class."""
        try:
            return read()
        except InputError as error:
            noted.append(error)
            raise

    return replace(inputs, read_distance=read_noting_errors)


def _of_class(inputs: TargetInputs, index: int) -> ClassInputs:
    """Return what is read of one class."""
    distance = None if inputs.distance is None else inputs.required("distance")
    return ClassInputs(
        name=inputs.class_names[index],
        mask=inputs.masks[index],
        spacing=inputs.spacing,
        image=inputs.image,
        domain=inputs.domain,
        seeds=None if inputs.seeds is None else inputs.seeds[index],
        read_distance=None if distance is None else lambda: distance[:, index],
    )
