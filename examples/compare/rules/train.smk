# Train one network: a row, a seed, a fold, a length. One thread for it and one for each process that makes batches.
rule train:
    """Train a network, or resume one that was killed."""
    input:
        INDEX,
    output:
        NETWORK_FILE,
    log:
        f"{STUDY.results}/logs/train/{{network}}.log",
    benchmark:
        f"{STUDY.results}/logs/train/{{network}}.benchmark.tsv"
    threads: 1 + STUDY.training.workers
    resources:
        mem_mb=4000,
        runtime=training_minutes,
    params:
        run=run_json,
    shell:
        "OMP_NUM_THREADS=1 python -P -m comparison train --run {params.run:q} --output {output:q} > {log:q} 2>&1"


rule score:
    """Predict and score the test cases of a fold with all networks of a row."""
    input:
        INDEX,
        networks=networks,
    output:
        SCORE_FILE,
    log:
        f"{STUDY.results}/logs/score/{{score}}.log",
    benchmark:
        f"{STUDY.results}/logs/score/{{score}}.benchmark.tsv"
    threads: 1
    resources:
        mem_mb=8000,
        runtime=scoring_minutes,
    params:
        row=judged_row,
        fold=judged_fold,
        after=after_json,
        test=test_cases,
    shell:
        "OMP_NUM_THREADS={threads} python -P -m comparison score {input.networks:q} --row {params.row:q} "
        "--fold {params.fold} --after {params.after:q} --test {params.test:q} --output {output:q} > {log:q} 2>&1"


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
