# nnU-Net's part of a study that trains it: from the study's files to the arrays that soft labels are computed of.
rule preprocess:
    """Write the cases as a data set of nnU-Net, and let it plan and preprocess them."""
    input:
        raw_files,
    output:
        arrays(None),
    log:
        f"{STUDY.results}/logs/preprocess.log",
    threads: 8
    resources:
        mem_mb=32000,
        runtime=preprocessing_minutes,
    params:
        data=nnunet_json,
        files=raw_states,
    shell:
        "OMP_NUM_THREADS=1 python -P -m comparison preprocess --data {params.data:q} --threads {threads} > {log:q} 2>&1"
