"""Which candidate to take, and how good that choice is on cases it was not made on; pure.

A method has a family of candidates, one for each combination of its parameters. Everything follows from one table: the
error of each candidate on each case.

- **Within a family** the candidate with the least mean error is taken. A fold leaves one case out, chooses on the
  others and is scored on the case left out: these scores judge the family.
- **Between families** the simplest wins whose mean over folds is within one standard error of the best family's. The
  standard error is that of the paired differences over cases: cases differ far more than candidates do on one case.
- **The choice itself** is judged by leaving a case out of all of this, folds included.

With one case there are no folds. The case is cut into parts and these take the place of cases, which keeps a large grid
from winning by chance, but says nothing about other cases: no score of it is given.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from softlabels.errors import InputError

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class FamilyErrors:
    """The errors of all candidates of a method.

    Parameters
    ----------
    name : str
    by_case : (G, n) float64 array
        Error of each of G candidates on each of n cases.
    by_part : (G, n, P) float64 array
        The same on P parts of each case, P >= 2.
    """

    name: str
    by_case: Matrix
    by_part: Matrix

    def without(self, case: int) -> FamilyErrors:
        """Return the errors on all cases but one."""
        return FamilyErrors(self.name, np.delete(self.by_case, case, 1), np.delete(self.by_part, case, 1))

    @property
    def units(self) -> Matrix:
        """The errors on what is left out in turn: cases, or the parts of a single one."""
        return self.by_case if self.by_case.shape[1] > 1 else self.by_part[:, 0]


@dataclass(frozen=True)
class Folds:
    """A family, each unit left out in turn.

    Attributes
    ----------
    picks : (n,) int array
        The candidate that was chosen without the unit.
    errors : (n,) float64 array
        Its error on the unit.
    best : int
        The candidate that is chosen on all units.
    """

    picks: NDArray[np.intp]
    errors: Matrix
    best: int


@dataclass(frozen=True)
class Selection:
    """The family that wins, with the folds of all families in the order given.

    Attributes
    ----------
    winner, nearest : int
        The family that is taken, and the one with the least mean error over folds: they differ where the latter's lead
        is within one standard error.
    folds : tuple of Folds
    """

    winner: int
    nearest: int
    folds: tuple[Folds, ...]

    @property
    def candidate(self) -> int:
        """The candidate of the winner."""
        return self.folds[self.winner].best


def leave_one_out(errors: Matrix) -> Folds:
    """Return which candidate is chosen without each unit, and its error there.

    Parameters
    ----------
    errors : (G, n) float64 array
        n >= 2.

    Examples
    --------
    The second candidate is best on two of three cases, but without the third case the first would not be taken:

    >>> folds = leave_one_out(np.array([[3.0, 3.0, 1.0], [2.0, 2.0, 2.5]]))
    >>> folds.picks.tolist(), folds.errors.tolist(), folds.best
    ([0, 0, 1], [3.0, 3.0, 2.5], 1)
    """
    total = errors.sum(axis=1, keepdims=True)
    picks = np.argmin(total - errors, axis=0)
    return Folds(picks, errors[picks, np.arange(errors.shape[1])], int(np.argmin(total)))


def is_within_one_error(errors: Matrix, of_best: Matrix) -> bool:
    """Return whether a mean is at most one standard error of the paired differences above another.

    Examples
    --------
    >>> is_within_one_error(np.array([1.0, 3.0]), np.array([1.0, 1.0]))  # mean difference 1, standard error 1
    True
    >>> is_within_one_error(np.array([2.0, 2.1]), np.array([1.0, 1.0]))
    False
    """
    gaps = errors - of_best
    return bool(gaps.mean() <= gaps.std(ddof=1) / np.sqrt(len(gaps)))


def select(families: Sequence[FamilyErrors]) -> Selection:
    """Return the simplest family within one standard error of the best.

    Parameters
    ----------
    families : sequence of FamilyErrors
        Simplest first; all on the same cases.

    Raises
    ------
    InputError
        If there is no family or no case, or an error is not finite.

    Notes
    -----
    Cost: O(candidates x cases).
    """
    if not families or not all(one.by_case.size for one in families):
        raise InputError("tune: no candidate or no case, expected at least one of each")
    if bad := [one.name for one in families if not np.isfinite(one.by_case).all()]:
        raise InputError(f"tune: errors of {', '.join(bad)} are not finite; delete the scores and run again")
    folds = tuple(leave_one_out(one.units) for one in families)
    nearest = int(np.argmin([one.errors.mean() for one in folds]))
    winner = next(i for i, one in enumerate(folds) if is_within_one_error(one.errors, folds[nearest].errors))
    return Selection(winner, nearest, folds)


def shortlist(errors: Matrix, groups: Sequence[Hashable], most: int) -> list[int]:
    """Return the best candidate of each of the best groups, by mean error; the best of all first.

    Parameters
    ----------
    errors : (G, n) float64 array
    groups : sequence of G hashable values
        Which candidates are alike.
    most : int
        How many groups.

    Examples
    --------
    >>> shortlist(np.array([[3.0], [1.0], [2.0], [5.0]]), ["narrow", "narrow", "wide", "widest"], 2)
    [1, 2]
    """
    found: dict[Hashable, int] = {}
    for candidate in np.argsort(errors.mean(axis=1), kind="stable").tolist():
        found.setdefault(groups[candidate], candidate)
    return list(found.values())[:most]


def nested_choices(families: Sequence[FamilyErrors]) -> list[tuple[int, int]]:
    """Return (family, candidate) that is selected without each case in turn.

    Parameters
    ----------
    families : sequence of FamilyErrors
        Of at least two cases.

    Returns
    -------
    list of (int, int)
        One per case. The errors of these candidates on their cases are the honest error of the whole selection.
    """
    n_cases = families[0].by_case.shape[1]
    chosen = [select([one.without(case) for one in families]) for case in range(n_cases)]
    return [(one.winner, one.candidate) for one in chosen]
