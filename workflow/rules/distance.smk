rule distance:
    """Compute certified geodesic distances of every modality and class."""
    input:
        upstream_receipts,
    output:
        f"{RESULTS}/{{case}}/{{node}}.json",
    log:
        "logs/{case}/{node}.log",
    benchmark:
        "logs/{case}/{node}.benchmark.tsv"
    wildcard_constraints:
        node="distance-[0-9a-f]{8}",
    params:
        case=case_json,
        node=node_json,
        store=STORE,
        results=RESULTS,
        device=CONFIG.device,
    threads: 2
    resources:
        gpu=int(CONFIG.device == "cuda"),
    conda:
        "../../envs/cuda.yaml" if CONFIG.device == "cuda" else "../../envs/pipeline.yaml"
    shell:
        "python -m softlabels stage --case {params.case:q} --node {params.node:q} "
        "--store {params.store:q} --results {params.results:q} --device {params.device} "
        "--threads {threads} 2> {log:q}"
