rule name:
    # Copies, because Snakemake sets the times of its outputs, and through links those of the originals.
    input:
        trained=lambda wildcards: [f"{run_of(wildcards)}/{file.name}" for file in TRAINED],
        validation=lambda wildcards: f"{run_of(wildcards)}/validation",
    output:
        # The folder: what stood there under that name is gone.
        report(
            directory(EXPERIMENT),
            patterns=["validation/{picture,[^/]+}.png", "validation/{picture,[^/]+}.gif"],
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
    message:
        "Naming {wildcards.experiment} on {wildcards.scene}"
    shell:
        # Of the checkpoints the surfaces alone: the report scrubs through them.
        "(mkdir -p {output:q}/checkpoints; for each in {params.run:q}/*; do"
        ' case "$each" in */checkpoints) ;; *) cp -R "$each" {output:q} ;; esac; done;'
        " find {params.run:q}/checkpoints -name '[0-9]*.npz' -exec cp {{}} {output:q}/checkpoints \\;)"
        " > {log:q} 2>&1"


rule page:
    input:
        named_runs,
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
        out=subpath(output.page, parent=True),
    message:
        "Writing the report {output}"
    shell:
        "recon report --runs {input:q} --out {params.out:q} > {log:q} 2>&1"
