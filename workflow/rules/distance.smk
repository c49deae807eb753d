# Compute certified geodesic distances of every channel and class.
use rule prepare as distance with:
    wildcard_constraints:
        node="distance-[0-9a-f]{8}",


if CONFIG.device == "cuda":

    # A name of its own lets a profile send the rule to nodes with GPUs.
    use rule distance as distance_cuda with:
        conda:
            "../../envs/cuda.yaml"
        resources:
            mem_mb=memory_mb,
            runtime=runtime_min,
            gpu=1,
        params:
            device="cuda",

    ruleorder: distance_cuda > distance
