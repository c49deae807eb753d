# Find the start voxels of every class.
use rule prepare as seeds with:
    wildcard_constraints:
        node="seeds-[0-9a-f]{8}",
