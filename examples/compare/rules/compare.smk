# Compare all rows with the baseline.
rule comparison:
    """Write the table, every number, and the picture."""
    input:
        expand(SCORE_FILE, score=SCORES),
    output:
        f"{STUDY.results}/comparison.md",
        f"{STUDY.results}/comparison.tsv",
        report(f"{STUDY.results}/comparison.png", category="Comparison"),
    log:
        f"{STUDY.results}/logs/comparison.log",
    localrule: True
    params:
        study=study_json,
    shell:
        "python -P -m comparison table {input:q} --study {params.study:q} --output {output[0]:q} 2> {log:q}"
