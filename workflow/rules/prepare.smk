rule prepare:
    """Verify the files of a case, resample, scale and crop them."""
    input:
        case_files,
    output:
        f"{RESULTS}/{{case}}/{{node}}.json",
    log:
        "logs/{case}/{node}.log",
    benchmark:
        "logs/{case}/{node}.benchmark.tsv"
    wildcard_constraints:
        node="prepare-[0-9a-f]{8}",
    params:
        case=case_json,
        node=node_json,
        store=STORE,
        results=RESULTS,
    threads: 2
    conda:
        "../../envs/pipeline.yaml"
    shell:
        "python -m softlabels stage --case {params.case:q} --node {params.node:q} "
        "--store {params.store:q} --results {params.results:q} --threads {threads} 2> {log:q}"
