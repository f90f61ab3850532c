rule validate:
    input:
        model="results/{scene}/runs/{identity}/model.pt",
        run_id="results/{scene}/runs/{identity}/run_id.txt",
        views=[views(name) for name in config["validation"]],
        reference=true_mesh(),
    output:
        metrics=expand("results/{{scene}}/runs/{{identity}}/validation/{set}.json", set=config["validation"]),
        pictures=expand("results/{{scene}}/runs/{{identity}}/validation/{set}.png", set=config["validation"]),
        certificate="results/{scene}/runs/{identity}/validation/certificate.json",
        geometry="results/{scene}/runs/{identity}/validation/geometry.json" if true_mesh() else [],
    log:
        "results/logs/{scene}/runs/{identity}/validate.log",
    benchmark:
        "results/benchmarks/{scene}/runs/{identity}/validate.tsv"
    conda:
        "../envs/recon.yaml"
    threads: 2
    resources:
        mem_mb=more(2000),
        runtime=more(30),
    params:
        run=subpath(input.model, parent=True),
        out=subpath(output.certificate, parent=True),
        views=lambda wildcards, input: named_views(input.views),
        reference=lambda wildcards, input: ["--reference", input.reference] if input.reference else [],
        tone=config["tone"],
        experiment=lambda wildcards, resources: PLAN.experiment(wildcards).name,
    message:
        "Validating {params.experiment} on {wildcards.scene}"
    shell:
        "recon validate --run {params.run:q} --views {params.views:q} {params.reference:q} --tone {params.tone}"
        " --out {params.out:q} 2>&1 | tee {log:q}"
