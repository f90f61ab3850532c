from snakemake.utils import min_version

min_version("9.0")


configfile: "config/config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/dataset.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/validate.smk"
include: "workflow/rules/report.smk"


# Seconds of work that need no cluster's job; and the store must be made before any training.
localrules:
    all,
    experiments,
    name,
    tracking_store,


rule all:
    default_target: True
    input:
        "results/report/index.html",


rule experiments:
    input:
        "results/experiments/index.html",
