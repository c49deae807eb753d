# Choose method and parameters on the cases that have a reference: `snakemake tune`. No other target asks for these rules.
rule tune_case:
    """Score every candidate on one case; what was scored before is not computed again."""
    input:
        scored_files,
    output:
        f"{RESULTS}/tune/scores/{{case}}.json",
    log:
        "logs/{case}/tune.log",
    conda:
        "../../envs/pipeline.yaml"
    threads: 2
    resources:
        mem_mb=tune_memory_mb,
        runtime=tune_runtime_min,
    params:
        config=config_file,
        # Not in the command: files that were exchanged are scored again, and so is what a new version changes.
        files=scored_states,
        trial=trial_digest,
    shell:
        "python -P -m softlabels tune-case {wildcards.case:q} --job-config {params.config:q} --threads {threads} "
        "> {log:q} 2>&1"


rule tune:
    """Choose among all candidates, judged on cases left out."""
    input:
        scores_of_cases,
    output:
        config=f"{RESULTS}/tune/config.yaml",
        table=f"{RESULTS}/tune/tune.tsv",
        cases=f"{RESULTS}/tune/tune_cases.tsv",
        text=f"{RESULTS}/tune/tune.txt",
        picture=report(f"{RESULTS}/tune/tune.png", category="Tune"),
    log:
        "logs/tune.log",
    conda:
        "../../envs/pipeline.yaml"
    threads: 2
    resources:
        mem_mb=choice_memory_mb,
        runtime=choice_runtime_min,
    params:
        config=config_file,
    shell:
        "python -P -m softlabels tune --scored --job-config {params.config:q} --threads {threads} > {log:q} 2>&1"
