rule validate:
    input:
        model=f"{RUN}/{MODEL.name}",
        others=[f"{RUN}/{name}" for name in BESIDE_MODEL],
        views=[views(name) for name in config["validation"]],
        reference=true_mesh(),
    output:
        # The folder: of an earlier validation, on other sets, nothing stays.
        directory(f"{RUN}/validation"),
    log:
        "results/logs/{scene}/runs/{identity}/validate.log",
    benchmark:
        "results/benchmarks/{scene}/runs/{identity}/validate.tsv"
    conda:
        "../envs/recon.yaml"
    threads: 1
    resources:
        mem_mb=for_validation,
        runtime=more(30),
    params:
        run=subpath(input.model, parent=True),
        views=lambda wildcards, input: named_views(input.views),
        reference=lambda wildcards, input: ["--reference", input.reference] if input.reference else [],
        tone=config["tone"],
        experiment=lambda wildcards, resources: PLAN.experiment(wildcards).name,
        recon=lambda wildcards, resources: command(wildcards),
    message:
        "Validating {params.experiment} on {wildcards.scene}"
    shell:
        "{params.recon:q} validate --run {params.run:q} --views {params.views:q} {params.reference:q} --tone {params.tone}"
        " --out {output:q} 2>&1 | tee {log:q}"
