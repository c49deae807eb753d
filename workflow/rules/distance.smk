rule distance:
    """Compute certified geodesic distances of every modality and class."""
    input:
        upstream_receipts,
    output:
        f"{RESULTS}/{{unit}}/{{node}}.json",
    log:
        "logs/{unit}/{node}.log",
    benchmark:
        "logs/{unit}/{node}.benchmark.tsv"
    wildcard_constraints:
        node="distance-[0-9a-f]{8}",
    params:
        cases=cases_json,
        node=node_json,
        store=STORE,
        results=RESULTS,
        device=CONFIG.device,
    threads: 2
    resources:
        mem_mb=memory_mb,
        runtime=runtime_min,
        gpu=int(CONFIG.device == "cuda"),
    conda:
        "../../envs/cuda.yaml" if CONFIG.device == "cuda" else "../../envs/pipeline.yaml"
    shell:
        "python -m softlabels stage --cases {params.cases:q} --node {params.node:q} "
        "--receipt {output:q} --store {params.store:q} --results {params.results:q} --device {params.device} "
        "--threads {threads} 2> {log:q}"
