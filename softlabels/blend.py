"""From hard labels and a stored map to the training target: the pointwise step that is done at load time.

Every rule costs O(C N), so alpha, delta and epsilon can be swept without computing a map again.
"""

from __future__ import annotations

import numpy as np

from softlabels.errors import InputError

#: The parameter of each rule (None: it has none) and whether the rule needs a stored map.
RULES = {
    "onehot": (None, False),
    "label_smoothing": ("epsilon", False),
    "mix_onehot": ("alpha", True),
    "signed_margin": ("delta", True),
    "none": (None, True),
}

#: Stored value of a voxel that a signed map calls far away from the class.
FAR = np.float32(-1.0)


def class_masks(labels, classes) -> np.ndarray:
    """Return the mask of each class.

    Parameters
    ----------
    labels : (...) ndarray of integers
        Not modified.
    classes : list of dicts
        `[{"name": "tumour", "values": [1, 2]}, ...]`; values may be shared by several classes (overlapping regions).

    Returns
    -------
    (C, ...) ndarray of bool
        A label of no class (such as the ignore label) is False in all.

    Examples
    --------
    >>> class_masks(np.array([0, 1, 2]), [{"values": [0]}, {"values": [1, 2]}]).astype(int).tolist()
    [[1, 0, 0], [0, 1, 1]]
    """
    labels = np.asarray(labels)
    masks = np.empty((len(classes), *labels.shape), bool)
    for mask, group in zip(masks, classes, strict=True):
        mask[...] = np.isin(labels, group["values"])
    return masks


def resolved_blend(blend, **overrides) -> dict:
    """Return a checked copy of a blend, with the parameters that are not None replaced.

    Parameters
    ----------
    blend : dict
        `{"rule": ..., <parameter of the rule>: value in [0, 1]}`, as in index.json.
    **overrides : float or None
        alpha, delta or epsilon.

    Returns
    -------
    dict

    Raises
    ------
    InputError
        If the rule is unknown, a parameter does not belong to it, is missing, or lies outside [0, 1].

    Examples
    --------
    >>> resolved_blend({"rule": "mix_onehot", "alpha": 0.1}, alpha=0.3, delta=None)
    {'rule': 'mix_onehot', 'alpha': 0.3}
    """
    rule = blend.get("rule")
    if rule not in RULES:
        raise InputError(f"blend rule: got {rule!r}, expected one of {', '.join(RULES)}")
    parameter = RULES[rule][0]
    values = {**blend, **{name: value for name, value in overrides.items() if value is not None}}
    strange = sorted(set(values) - {"rule", parameter})
    if strange:
        takes = f"only {parameter}" if parameter else "no parameter"
        raise InputError(f"blend rule {rule!r}: got {', '.join(strange)}, expected {takes}; remove it")
    if parameter is None:
        return {"rule": rule}
    value = values.get(parameter)
    if value is None or not 0.0 <= value <= 1.0:
        raise InputError(f"blend rule {rule!r}: got {parameter}={value}, expected a number in [0, 1]")
    return {"rule": rule, parameter: float(value)}


def blend(masks, stored=None, *, rule, is_overlapping=False, **parameters) -> np.ndarray:
    """Return the soft label: the hard labels and the stored map put together by a blend rule.

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
    masks : (C, ...) ndarray of bool
        The hard labels, from `class_masks`. Not modified.
    stored : (C, ...) ndarray of float32, optional
        The map of the store; required by the last three rules, and refused by the first two. Not modified.
    rule : str
        One of `RULES`.
    is_overlapping : bool
        Whether a voxel may belong to several classes; matters to label_smoothing only.
    **parameters
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
    >>> blend(masks, rule="label_smoothing", epsilon=0.5).tolist()
    [[0.75, 0.25], [0.25, 0.75]]
    """
    share = resolved_blend({"rule": rule, **parameters}).get(RULES.get(rule, (None,))[0])
    if RULES[rule][1] != (stored is not None):
        raise InputError(f"blend rule {rule!r}: stored map {'missing' if stored is None else 'given, but not used'}")
    if stored is not None and np.shape(stored) != np.shape(masks):
        raise InputError(f"stored map: got shape {np.shape(stored)}, expected that of the masks, {np.shape(masks)}")
    if rule == "none":
        return np.array(stored, np.float32)
    hard = np.asarray(masks).astype(np.float32)
    if rule == "label_smoothing":
        return _mixed(hard, np.float32(0.5 if is_overlapping else 1.0 / len(hard)), share)
    if rule == "mix_onehot":
        return _mixed(hard, stored, share)
    if rule == "signed_margin":
        soft = _mixed(np.asarray(stored, np.float32), 2 * hard - 1, share)
        soft[np.asarray(stored) == FAR] = FAR
        return soft
    return hard


def _mixed(first, second, share) -> np.ndarray:
    """Return (1-share)*first + share*second in float32."""
    return np.float32(1.0 - share) * first + np.float32(share) * second


def entropy_bits(soft_label, *, is_signed=False, is_overlapping=False) -> np.ndarray:
    """Return how undecided a soft label is at each voxel, in bits.

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
    share = np.asarray(soft_label, np.float32)
    share = np.clip((1 + share) / 2 if is_signed else share, 0, 1)
    if is_signed or is_overlapping:
        return (_surprise(share) + _surprise(1 - share)).sum(axis=0)
    total = share.sum(axis=0)
    return _surprise(share / np.where(total > 0, total, 1)).sum(axis=0)


def _surprise(share) -> np.ndarray:
    """Return -p log2 p, 0 at p = 0."""
    return -share * np.log2(np.where(share > 0, share, 1))
