# Take a case through all stages in one process.
use rule prepare as stages with:
    output:
        f"{RESULTS}/{{unit}}/{ALL_STAGES}.json",
    log:
        f"logs/{{unit}}/{ALL_STAGES}.log",
    benchmark:
        f"logs/{{unit}}/{ALL_STAGES}.benchmark.tsv"
    wildcard_constraints:
        unit=r"(batches/)?[A-Za-z0-9][A-Za-z0-9_.-]*",


if CONFIG.device == "cuda":

    # A name of its own lets a profile send the rule to nodes with GPUs.
    use rule stages as stages_cuda with:
        conda:
            "../../envs/cuda.yaml"
        resources:
            mem_mb=memory_mb,
            runtime=runtime_min,
            gpu=1,
        params:
            device="cuda",

    ruleorder: stages_cuda > stages
