# Verify the files of a case, resample, scale and crop them. The rules of the other stages are this one, changed where
# they differ: what a job reads and what it asks for follows from its nodes.
rule prepare:
    """Run one stage, or all stages, for a case or a batch of cases."""
    input:
        upstream_receipts,
        case_files,
    output:
        f"{RESULTS}/{{unit}}/{{node}}.json",
    log:
        "logs/{unit}/{node}.log",
    benchmark:
        "logs/{unit}/{node}.benchmark.tsv"
    wildcard_constraints:
        node="prepare-[0-9a-f]{8}",
    conda:
        "../../envs/pipeline.yaml"
    threads: job_threads
    resources:
        mem_mb=memory_mb,
        runtime=runtime_min,
    params:
        cases=cases_file,
        nodes=nodes_file,
        # Not in the command: a file that was exchanged, also by an older one, is read anew.
        files=file_states,
        store=store_folder,
        results=results_folder,
        device="cpu",
    # -P: a file of the project's folder that is named like a Python module is not imported.
    shell:
        "python -P -m softlabels stage --cases {params.cases:q} --nodes {params.nodes:q} "
        "--receipt {output:q} --store {params.store:q} --results {params.results:q} --device {params.device} "
        "--threads {threads} --log {log:q} 2> {log:q}"
