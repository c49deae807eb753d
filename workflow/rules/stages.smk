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
