rule stages:
    """Take a case through all stages in one process."""
    input:
        unit_files,
    output:
        f"{RESULTS}/{{unit}}/stages.json",
    log:
        "logs/{unit}/stages.log",
    benchmark:
        "logs/{unit}/stages.benchmark.tsv"
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
