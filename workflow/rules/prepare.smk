rule prepare:
    """Verify the files of a case, resample, scale and crop them."""
    input:
        unit_files,
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
    threads: 2
    resources:
        mem_mb=memory_mb,
        runtime=runtime_min,
    params:
        cases=cases_json,
        nodes=nodes_json,
        store=STORE,
        results=results_folder,
    shell:
        "python -m softlabels stage --cases {params.cases:q} --nodes {params.nodes:q} "
        "--receipt {output:q} --store {params.store:q} --results {params.results:q} --threads {threads} 2> {log:q}"
