"""Algorithm versions of the stages: part of every key and of every rule's params.

Bump one when that stage's results change, and say so in the CHANGELOG; a target's version stands in
`softlabels.methods`. Kept apart from the modules because the Snakefile reads them and must not import what they need.
"""

PREPARE = "1"
SEEDS = "1"
DISTANCE = "1"
