rule name:
    # Copies, because Snakemake sets the times of its outputs, and through links those of the originals.
    input:
        trained=run_files(TRAINED),
        measured=run_files(MEASURED),
        pictures=run_files(PICTURES),
    output:
        trained=[f"results/{{scene}}/{{experiment}}/{file}" for file in TRAINED],
        measured=[f"results/{{scene}}/{{experiment}}/{file}" for file in MEASURED],
        pictures=[
            report(
                f"results/{{scene}}/{{experiment}}/{file}",
                caption="../report/validation.rst",
                category="{scene}",
                subcategory="{experiment}",
                labels={"shows": "views beside their prediction", "viewpoint set": Path(file).stem},
            )
            for file in PICTURES
        ],
        turntable=report(
            "results/{scene}/{experiment}/validation/turntable.gif",
            caption="../report/turntable.rst",
            category="{scene}",
            subcategory="{experiment}",
            labels={"shows": "the reconstruction, turning", "viewpoint set": "–"},
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
        run=lambda wildcards: f"results/{wildcards.scene}/runs/{PLAN.identity(wildcards)}",
        out="results/{scene}/{experiment}",
    message:
        "Naming {wildcards.experiment} on {wildcards.scene}"
    shell:
        # Of the checkpoints the surfaces alone: the report scrubs through them.
        "(for each in {params.run:q}/*; do"
        ' case "$each" in */checkpoints) ;; *) cp -R "$each" {params.out:q} ;; esac; done;'
        " rm -rf {params.out:q}/checkpoints; mkdir {params.out:q}/checkpoints;"
        " find {params.run:q}/checkpoints -name '[0-9]*.npz' -exec cp {{}} {params.out:q}/checkpoints \\;)"
        " > {log:q} 2>&1"


rule page:
    input:
        history=lambda wildcards: [f"{run}/history.csv" for run in named_runs(wildcards)],
        mesh=lambda wildcards: [f"{run}/mesh.glb" for run in named_runs(wildcards)],
        metrics=lambda wildcards: [f"{run}/{file}" for run in named_runs(wildcards) for file in MEASURED],
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
