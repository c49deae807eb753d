# Image files to soft labels: prepare -> seeds -> distance -> target -> index. Each stage is a file in workflow/rules;
# with `stages_per_job: all` the rule `stages` takes the place of the four.
from snakemake.utils import min_version

min_version("9.27")


# A file named by --configfile, or by the workflow that this one is a module of, is the whole configuration:
# Snakemake would merge it, key by key, with a config.yaml that happens to be in the folder.
if not workflow.configfiles:

    configfile: "config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/prepare.smk"
include: "workflow/rules/seeds.smk"
include: "workflow/rules/distance.smk"
include: "workflow/rules/target.smk"
include: "workflow/rules/stages.smk"
include: "workflow/rules/cohort.smk"
include: "workflow/rules/tune.smk"


report: "workflow/report/workflow.rst"


rule all:
    default_target: True
    input:
        final_outputs(),
    localrule: True


onstart:
    lift_limit_of_local_jobs(workflow)


onsuccess:
    clean_up(is_failed=False)


onerror:
    clean_up(is_failed=True)
