rule index:
    """Write the one file that a trainer opens."""
    input:
        all_receipts,
    output:
        f"{RESULTS}/index.json",
    log:
        "logs/index.log",
    retries: 0
    localrule: True
    conda:
        "../../envs/pipeline.yaml"
    params:
        config=config_file,
        splits=splits_digest,
    shell:
        "python -P -m softlabels index --job-config {params.config:q} --output {output:q} > {log:q} 2>&1"


rule montage:
    """Draw every node of a case in one picture."""
    input:
        case_receipts,
    output:
        picture=report(
            f"{RESULTS}/{{case}}/montage.png",
            category="Cases",
            labels={"case": "{case}"},
            caption="../report/montage.rst",
        ),
        thumbnail=f"{RESULTS}/{{case}}/thumbnail.png",
    log:
        "logs/{case}/montage.log",
    conda:
        "../../envs/pipeline.yaml"
    params:
        config=config_file,
    shell:
        "python -P -m softlabels show {wildcards.case:q} --job-config {params.config:q} --output {output.picture:q}"
        " --thumbnail {output.thumbnail:q} > {log:q} 2>&1"


rule batch_montages:
    """Draw the pictures of a batch's cases in one process."""
    input:
        unit_receipts,
    output:
        # Links to the pictures, because Snakemake's report can only list what a rule has written.
        report(
            directory(f"{RESULTS}/{{unit}}/pictures"),
            patterns=["{case}.png"],
            category="Cases",
            labels={"case": "{case}"},
            caption="../report/montage.rst",
        ),
    log:
        "logs/{unit}/montages.log",
    wildcard_constraints:
        unit="batches/[0-9]{5}",
    conda:
        "../../envs/pipeline.yaml"
    resources:
        runtime=picture_min,
    params:
        config=config_file,
        cases=cases_file,
    shell:
        "python -P -m softlabels pictures --cases {params.cases:q} --job-config {params.config:q} --links {output:q}"
        " > {log:q} 2>&1"


rule cohort_report:
    """Gather figures and flags of the whole cohort in one page."""
    input:
        f"{RESULTS}/index.json",
    output:
        report(f"{RESULTS}/report/index.html", category="Cohort", caption="../report/cohort.rst"),
    log:
        "logs/report.log",
    conda:
        "../../envs/pipeline.yaml"
    params:
        config=config_file,
    shell:
        "python -P -m softlabels report --job-config {params.config:q} --output {output:q} > {log:q} 2>&1"
