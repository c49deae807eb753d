# Compute the soft label of one method.
use rule prepare as target with:
    wildcard_constraints:
        node="target-[0-9a-f]{8}",
