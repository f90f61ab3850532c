rule name:
    # Copies, because Snakemake sets the times of its outputs, and through links those of the originals.
    input:
        trained=lambda wildcards: [f"{run_of(wildcards)}/{file.name}" for file in TRAINED],
        validation=lambda wildcards: f"{run_of(wildcards)}/validation",
    output:
        trained=[f"{EXPERIMENT}/{file.name}" for file in TRAINED],
        validation=report(
            directory(f"{EXPERIMENT}/validation"),
            patterns=["{picture,[^/]+}.png", "{picture,[^/]+}.gif"],
            caption="../report/validation.rst",
            category="{scene}",
            subcategory="{experiment}",
            labels={"shows": "{picture}"},
        ),
    log:
        "results/logs/{scene}/{experiment}/name.log",
    benchmark:
        "results/benchmarks/{scene}/{experiment}/name.tsv"
    conda:
        "../envs/recon.yaml"
    threads: 1
    resources:
        mem_mb=200,
        runtime=5,
    params:
        run=lambda wildcards: run_of(wildcards),
        out=subpath(output.validation, parent=True),
        record=RunFolder(Path()).record.name,
    message:
        "Naming {wildcards.experiment} on {wildcards.scene}"
    shell:
        # Nothing stays of what stood under that name. Of the checkpoints the surfaces, which the report scrubs through,
        # and the record, which says how the training ended.
        "(find {params.out:q} -mindepth 1 -delete; mkdir {params.out:q}/checkpoints; for each in {params.run:q}/*; do"
        ' case "$each" in */checkpoints) ;; *) cp -R "$each" {params.out:q} ;; esac; done;'
        " find {params.run:q}/checkpoints '(' -name '[0-9]*.npz' -o -name {params.record:q} ')'"
        " -exec cp {{}} {params.out:q}/checkpoints \\;)"
        " > {log:q} 2>&1"


rule page:
    input:
        trained=lambda wildcards: [f"{run}/{file.name}" for run in named_runs(wildcards) for file in TRAINED],
        validation=lambda wildcards: [f"{run}/validation" for run in named_runs(wildcards)],
    output:
        page=report(
            "results/{page}/index.html",
            caption="../report/page.rst",
            category="Report",
            labels={"shows": "all runs side by side"},
        ),
        figures=report(
            directory("results/{page}/figures"),
            patterns=["{figure}.png"],
            caption="../report/figure.rst",
            category="Report",
            subcategory="Figures",
            labels={"shows": "{figure}"},
        ),
    log:
        "results/logs/{page}.log",
    benchmark:
        "results/benchmarks/{page}.tsv"
    conda:
        "../envs/recon.yaml"
    threads: 1
    resources:
        mem_mb=more(1500),
        runtime=more(10),
    params:
        runs=named_runs,
        out=subpath(output.page, parent=True),
    message:
        "Writing the report {output}"
    shell:
        "recon report --runs {params.runs:q} --out {params.out:q} > {log:q} 2>&1"
