"""From hard labels and a stored map to the training target: the pointwise step that is done at load time.

Every rule costs O(C N), so alpha, delta and epsilon can be swept without computing a map again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from softlabels.calibration import Calibration
from softlabels.errors import InputError


class Rule(NamedTuple):
    """What a blend rule takes besides the hard labels."""

    #: The name of its parameter in [0, 1]; None if it has none.
    parameter: str | None
    #: Whether it takes the map of the store.
    needs_stored: bool


RULES = {
    "onehot": Rule(None, needs_stored=False),
    "label_smoothing": Rule("epsilon", needs_stored=False),
    "mix_onehot": Rule("alpha", needs_stored=True),
    "signed_margin": Rule("delta", needs_stored=True),
    "none": Rule(None, needs_stored=True),
}

#: Stored value of a voxel that a signed map calls far away from the class.
FAR = np.float32(-1.0)


@dataclass(frozen=True)
class Blend:
    """A blend rule with the value of its parameter: how a soft label is computed from hard labels and a stored map.

    =================  ==========================================================================================
    rule               soft label (y: one-hot, s: stored map)
    =================  ==========================================================================================
    onehot             y
    label_smoothing    (1-epsilon) y + epsilon/C; for overlapping regions, where each is a binary problem of its
                       own, (1-epsilon) y + epsilon/2
    mix_onehot         (1-alpha) y + alpha s   (GeoLS, Eq. 6)
    signed_margin      (1-delta) s + delta sign, with sign +1 where y is 1 and -1 elsewhere; exactly -1 where s is
                       exactly -1, the mark of "far away"   (SiNG, Eq. 5)
    none               s
    =================  ==========================================================================================

    Parameters
    ----------
    rule : str
        One of `RULES`.
    value : float, optional
        The value of the rule's parameter, in [0, 1]; None for a rule without a parameter.
    calibration : Calibration, optional
        Applied to what the rule gives; only where that is a probability.

    Raises
    ------
    InputError
        If the rule is unknown, the value is missing, superfluous or outside [0, 1], or a signed map has a calibration.

    Examples
    --------
    >>> Blend.from_json({"rule": "mix_onehot", "alpha": 0.1}).replaced(alpha=0.3, delta=None)
    Blend(rule='mix_onehot', value=0.3, calibration=None)
    """

    rule: str
    value: float | None = None
    calibration: Calibration | None = None

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise InputError(f"blend rule: got {self.rule!r}, expected one of {', '.join(RULES)}")
        if self.parameter is None and self.value is not None:
            raise InputError(f"blend rule {self.rule!r}: got the value {self.value}, expected none; remove it")
        if self.parameter is not None and (self.value is None or not 0.0 <= self.value <= 1.0):
            raise InputError(
                f"blend rule {self.rule!r}: got {self.parameter}={self.value}, expected a number in [0, 1]"
            )
        if self.calibration is not None and self.rule == "signed_margin":
            raise InputError("blend rule 'signed_margin': a signed map is no probability; remove calibrate")

    @property
    def parameter(self) -> str | None:
        """The name of the rule's parameter; None if it has none."""
        return RULES[self.rule].parameter

    @property
    def needs_stored(self) -> bool:
        """Whether the soft label needs a stored map, or only the hard labels."""
        return RULES[self.rule].needs_stored

    @property
    def mixes_channels(self) -> bool:
        """Whether a channel of the soft label depends on the other channels, or on how many there are."""
        return self.rule == "label_smoothing" or self.calibration is not None

    def to_json(self) -> dict[str, Any]:
        """Return the blend as in index.json: the rule, its parameter by name, and the calibration."""
        value = {} if self.parameter is None else {self.parameter: self.value}
        calibrate = {} if self.calibration is None else {"calibrate": self.calibration.to_json()}
        return {"rule": self.rule, **value, **calibrate}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Blend:
        """Return the blend that `to_json` described."""
        values = dict(content)
        rule = values.pop("rule", None)
        if rule not in RULES:
            raise InputError(f"blend rule: got {rule!r}, expected one of {', '.join(RULES)}")
        calibrate = values.pop("calibrate", None)
        value = _only_value(rule, values)
        calibration = None if calibrate is None else Calibration.from_json(calibrate)
        return cls(rule, None if value is None else float(value), calibration)

    def replaced(self, **overrides: float | None) -> Blend:
        """Return the blend with another value of its parameter.

        Parameters
        ----------
        **overrides : float or None
            alpha, delta or epsilon; None leaves the value as it is.

        Raises
        ------
        InputError
            If the rule has no such parameter, or the value is outside [0, 1].
        """
        value = _only_value(self.rule, {name: value for name, value in overrides.items() if value is not None})
        return self if value is None else replace(self, value=float(value))

    def soft_label(
        self,
        masks: ArrayLike,
        stored: ArrayLike | None = None,
        *,
        is_overlapping: bool = False,
        out: NDArray[np.float32] | None = None,
    ) -> NDArray[np.float32]:
        """Return the soft label of these hard labels and this stored map.

        Parameters
        ----------
        masks : (C, ...) ndarray of bool
            The hard labels, from `softlabels.classes.class_masks`. Not modified.
        stored : (C, ...) ndarray of float32, optional
            The map of the store; required where `needs_stored`, and refused elsewhere. Not modified unless it is `out`.
        is_overlapping : bool
            Whether a voxel may belong to several classes; matters to label_smoothing only.
        out : (C, ...) ndarray of float32, optional
            Where to write the soft label; it may be the stored map, which is lost then.

        Returns
        -------
        (C, ...) ndarray of float32
            `out`, or newly allocated.

        Raises
        ------
        InputError
            If the masks are not bool, or the stored map is missing, superfluous, or of another shape than the masks.

        Notes
        -----
        Cost: one or two passes over the channels, and no temporary of their size but the result.

        Examples
        --------
        >>> masks = np.array([[True, False], [False, True]])
        >>> Blend("label_smoothing", 0.5).soft_label(masks).tolist()
        [[0.75, 0.25], [0.25, 0.75]]
        """
        hard = np.asarray(masks)
        if hard.dtype != bool:
            raise InputError(f"masks: got {hard.dtype}, expected bool, from softlabels.classes.class_masks")
        if self.needs_stored != (stored is not None):
            raise InputError(
                f"blend rule {self.rule!r}: stored map {'missing' if stored is None else 'given, but not used'}"
            )
        if stored is not None and np.shape(stored) != hard.shape:
            raise InputError(f"stored map: got shape {np.shape(stored)}, expected that of the masks, {hard.shape}")
        soft = np.empty(hard.shape, np.float32) if out is None else out
        self._write_by_rule(soft, hard, None if stored is None else np.asarray(stored), is_overlapping)
        if self.calibration is not None:
            soft[...] = self.calibration.applied(soft, is_overlapping=is_overlapping)
        return soft

    def _write_by_rule(
        self, soft: NDArray[np.float32], hard: NDArray[np.bool_], stored: NDArray[Any] | None, is_overlapping: bool
    ) -> None:
        """Write what the rule gives to `soft`, which may be the stored map.

        A one-hot label is 0 or 1, so its share is added where it is 1: the same bits in a quarter of the time.
        """
        share, rest = np.float32(self.value or 0.0), np.float32(1.0 - (self.value or 0.0))
        if stored is None:
            if self.rule == "onehot":
                np.copyto(soft, hard)
            else:
                soft.fill(share * np.float32(0.5 if is_overlapping else 1.0 / len(hard)))
                np.add(soft, rest, out=soft, where=hard)
        elif self.rule == "none":
            if stored is not soft:
                np.copyto(soft, stored)
        elif self.rule == "mix_onehot":
            np.multiply(stored, share, out=soft, dtype=np.float32)
            np.add(soft, rest, out=soft, where=hard)
        else:
            is_far = stored == FAR
            np.multiply(stored, rest, out=soft, dtype=np.float32)
            np.add(soft, share, out=soft, where=hard)
            np.subtract(soft, share, out=soft, where=~hard)
            soft[is_far] = FAR


def _only_value(rule: str, values: Mapping[str, float]) -> float | None:
    """Return the value of the rule's parameter among named values, None if there is none; InputError for others."""
    parameter = RULES[rule].parameter
    unknown = sorted(set(values) - {parameter})
    if unknown:
        expected = f"only {parameter}" if parameter else "no parameter"
        raise InputError(f"blend rule {rule!r}: got {', '.join(unknown)}, expected {expected}; remove it")
    return values.get(parameter) if parameter else None


def blend(
    masks: ArrayLike, stored: ArrayLike | None = None, *, rule: str, is_overlapping: bool = False, **parameters: float
) -> NDArray[np.float32]:
    """Return the soft label of one call: `Blend` with its rule and parameter by name.

    Parameters
    ----------
    masks, stored, is_overlapping
        As for `Blend.soft_label`.
    rule : str
        One of `RULES`.
    **parameters : float
        The rule's own: epsilon, alpha or delta, in [0, 1].

    Returns
    -------
    (C, ...) ndarray of float32

    Raises
    ------
    InputError
        If the rule or a parameter is wrong, or the stored map is missing, superfluous, or of another shape.

    Examples
    --------
    >>> masks = np.array([[True, False], [False, True]])
    >>> stored = np.array([[0.5, 0.25], [0.5, 0.75]], np.float32)
    >>> blend(masks, stored, rule="mix_onehot", alpha=0.5).tolist()
    [[0.75, 0.125], [0.25, 0.875]]
    """
    chosen = Blend.from_json({"rule": rule, **parameters})
    return chosen.soft_label(masks, stored, is_overlapping=is_overlapping)


def entropy_bits(
    soft_label: ArrayLike, *, is_signed: bool = False, is_overlapping: bool = False
) -> NDArray[np.float32]:
    """Return the entropy of a soft label at each voxel, in bits.

    Exclusive classes: the entropy of the distribution over them (channels divided by their sum). Overlapping regions
    and signed maps: the sum of the binary entropies of all channels, a signed value u standing for p = (1+u)/2.

    Parameters
    ----------
    soft_label : (C, ...) ndarray
        Not modified; clipped to [0, 1], or [-1, 1] if signed.
    is_signed, is_overlapping : bool

    Returns
    -------
    (...) ndarray of float32
        In [0, log2 C] for exclusive classes, else [0, C].

    Examples
    --------
    >>> entropy_bits(np.array([[0.5, 1.0], [0.5, 0.0]])).tolist()
    [1.0, 0.0]
    >>> entropy_bits(np.array([[0.0, -1.0]]), is_signed=True).tolist()
    [1.0, 0.0]
    """
    given = np.asarray(soft_label, np.float32)
    share: NDArray[np.float32] = np.clip((1 + given) / 2 if is_signed else given, 0, 1)
    if is_signed or is_overlapping:
        return np.asarray((_surprise(share) + _surprise(1 - share)).sum(axis=0))
    total = share.sum(axis=0)
    return np.asarray(_surprise(share / np.where(total > 0, total, 1)).sum(axis=0))


def _surprise(share: NDArray[Any]) -> NDArray[Any]:
    """Return -p log2 p, 0 at p = 0."""
    return -share * np.log2(np.where(share > 0, share, 1))
