# The rule has a name of its own on GPUs, so that a profile can send it to their nodes.
ON_GPU = CONFIG.device == "cuda"


rule:
    """Compute certified geodesic distances of every modality and class."""
    name:
        "distance_cuda" if ON_GPU else "distance"
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
    conda:
        "../../envs/cuda.yaml" if ON_GPU else "../../envs/pipeline.yaml"
    threads: 2
    resources:
        mem_mb=memory_mb,
        runtime=runtime_min,
        gpu=int(ON_GPU),
    params:
        cases=cases_json,
        nodes=nodes_json,
        store=STORE,
        results=results_folder,
        device=CONFIG.device,
    shell:
        "python -m softlabels stage --cases {params.cases:q} --nodes {params.nodes:q} "
        "--receipt {output:q} --store {params.store:q} --results {params.results:q} --device {params.device} "
        "--threads {threads} 2> {log:q}"
