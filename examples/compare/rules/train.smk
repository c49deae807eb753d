# Train one network: a row, a seed, a fold, a length. One thread for it and one for each process that makes batches.
rule train:
    """Train a network, or resume one that was killed."""
    input:
        # Its time does not count: it is written again for every new target. `recipe` and `files` say what matters.
        ancient(INDEX),
    output:
        f"{STUDY.results}/networks/{{row}}/seed{{seed}}_fold{{fold}}_steps{{steps}}.pt",
    log:
        f"{STUDY.results}/logs/train/{{row}}_seed{{seed}}_fold{{fold}}_steps{{steps}}.log",
    benchmark:
        f"{STUDY.results}/logs/train/{{row}}_seed{{seed}}_fold{{fold}}_steps{{steps}}.benchmark.tsv"
    threads: 1 + STUDY.training.workers
    resources:
        mem_mb=4000,
        runtime=training_minutes,
    params:
        run=run_json,
        recipe=recipe,
        files=trained_files,
    shell:
        "OMP_NUM_THREADS=1 python -P -m comparison train --run {params.run:q} --output {output:q} > {log:q} 2>&1"


rule score:
    """Predict and score the test cases of a fold with all networks of a row."""
    input:
        networks,
    output:
        f"{STUDY.results}/scores/{{row}}_fold{{fold}}.tsv",
    log:
        f"{STUDY.results}/logs/score/{{row}}_fold{{fold}}.log",
    benchmark:
        f"{STUDY.results}/logs/score/{{row}}_fold{{fold}}.benchmark.tsv"
    threads: 1
    resources:
        mem_mb=8000,
        runtime=scoring_minutes,
    params:
        after=rows_after,
        test=test_cases,
        files=judging_files,
        version=SCORES_VERSION,
    shell:
        "OMP_NUM_THREADS={threads} python -P -m comparison score {input:q} --row {wildcards.row} --fold {wildcards.fold} "
        "--after {params.after:q} --test {params.test:q} --output {output:q} > {log:q} 2>&1"


if STUDY.training.device == "cuda":

    # Names of their own let a profile send the rules to nodes with GPUs.
    use rule train as train_cuda with:
        resources:
            mem_mb=32000,
            runtime=training_minutes,
            gpu=1,

    use rule score as score_cuda with:
        threads: 4
        resources:
            mem_mb=32000,
            runtime=scoring_minutes,
            gpu=1,

    ruleorder: train_cuda > train
    ruleorder: score_cuda > score
