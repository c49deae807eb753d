"""The commented config.yaml that `softlabels init` writes for a new project."""

from __future__ import annotations

import json
from collections.abc import Mapping
from string import Template

import yaml

from softlabels.classes import LabelSet

_TEMPLATE = Template("""\
# Written by `softlabels init`. Every key, its unit, legal values and default: docs/config.md.

# The case sheet: columns case, image:<channel>... (or one `image`), label, and optionally split.
cases: cases.tsv
# The store may be shared between projects and users; results belong to this project.
store: store
results: results

# Names of the image channels, in the order of the sheet's columns.
channels: [$channels]

# nnU-Net's grammar: name: integer, name: [integers] for a region, and `ignore` with the highest integer.
labels:
$labels
$colours
prepare:
$prepare

# The soft labels to compute, under your own names. Keys that are omitted take the method's published default.
targets:
$targets
device: cpu                   # cpu | cuda: the results are the same, bit for bit
engine: softlabels            # fastgeodis | geodistk only for parity with published results
# Starting a process takes a second, on a cluster several, so one process takes a case through all stages. With `one`,
# every stage is its own job: a changed target does not start the stages before it, and with device cuda only the
# distances hold a GPU.
stages_per_job: all           # one | all
# What is written to the store. With `targets`, seeds and distances stay in memory: a case takes less time, and the
# store is much smaller; `softlabels show --make` computes them again for a case.
keep: all                     # all | targets | a list of stages
# Cases that share a process; `softlabels plan` suggests a number.
${off}cases_per_job: $cases_per_job
""")

_PREPARE = """\
  spacing: native             # or [z, y, x] in mm
  clip_percentiles: [0.5, 99.5]
  normalise: zscore           # none | zscore | minmax
  domain: none                # none | nonzero: where statistics are taken and distances may run
  crop: none                  # none | nonzero | labels"""
_AS_NNUNET_LEFT_IT = """\
  # nnU-Net has cropped, resampled and normalised these arrays. Any change here moves the soft labels off its grid.
  spacing: native
  normalise: none
  crop: none"""
_GEOLS = """\
  geols:
    method: geols
    variant: paper
    seeds: {strategy: skeleton}
    alpha: 0.1                # applied by the loader: changing it recomputes nothing
"""
_SING = """\
  sing:
    method: sing
    variant: paper
    delta: 0.5                # applied by the loader
"""


def config_template(
    channels: list[str],
    labels: dict[str, int | list[int]],
    cases_per_job: int = 1,
    *,
    is_nnunet: bool = False,
    colours: Mapping[str, str] | None = None,
) -> str:
    """Return a config.yaml for the channels and labels of a data set.

    GeoLS needs exclusive classes, so overlapping regions begin with SiNG alone. One case per job is the default, so it
    is only mentioned. With `is_nnunet` the images are nnU-Net's preprocessed arrays: they are taken as they are, and
    the targets are those that its network can be trained on (a softmax cannot give SiNG's signed maps).

    Examples
    --------
    >>> "channels: [CT]" in config_template(["CT"], {"background": 0, "liver": 1})
    True
    """
    shown = "\n".join(f"  {_plain(name)}: {value}" for name, value in labels.items())
    coloured = "".join(f"\n  {_plain(name)}: '{colour}'" for name, colour in (colours or {}).items())
    is_overlapping = LabelSet.parse(labels).is_overlapping
    targets = _SING if is_overlapping else _GEOLS if is_nnunet else _GEOLS + _SING
    return _TEMPLATE.substitute(
        channels=", ".join(map(_plain, channels)),
        labels=shown,
        colours=f"# Of pictures and pages.\ncolours:{coloured}\n" if coloured else "",
        prepare=_AS_NNUNET_LEFT_IT if is_nnunet else _PREPARE,
        targets=targets,
        cases_per_job=cases_per_job,
        off="# " if cases_per_job == 1 else "",
    )


def _plain(name: str) -> str:
    """Return a name as YAML takes it for text, in quotes where YAML has another meaning for the word.

    Examples
    --------
    >>> _plain("liver"), _plain("ON"), _plain("null"), _plain("y")
    ('liver', '"ON"', '"null"', '"y"')
    """
    # Some readers of YAML take y and n for booleans; PyYAML does not.
    return name if yaml.safe_load(name) == name and name.lower() not in ("y", "n") else json.dumps(name)
