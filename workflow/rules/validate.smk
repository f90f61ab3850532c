rule validate:
    input:
        model="results/{scene}/{experiment}/model.pt",
        run_id="results/{scene}/{experiment}/run_id.txt",
        views=[views(name) for name in config["validation"]],
        reference=true_mesh(),
    output:
        metrics=expand("results/{{scene}}/{{experiment}}/validation/{set}.json", set=config["validation"]),
        pictures=report(
            expand("results/{{scene}}/{{experiment}}/validation/{set}.png", set=config["validation"]),
            caption="../report/validation.rst",
            category="{scene}",
            subcategory="{experiment}",
        ),
        certificate="results/{scene}/{experiment}/validation/certificate.json",
        geometry="results/{scene}/{experiment}/validation/geometry.json" if true_mesh() else [],
    log:
        "results/logs/{scene}/{experiment}/validate.log",
    benchmark:
        "results/benchmarks/{scene}/{experiment}/validate.tsv"
    conda:
        "../envs/recon.yaml"
    threads: 2
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        run=subpath(input.model, parent=True),
        out=subpath(output.certificate, parent=True),
        views=lambda wildcards, input: named_views(input.views),
        reference=lambda wildcards, input: ["--reference", input.reference] if input.reference else [],
        tone=config["tone"],
    message:
        "Validating {wildcards.experiment} on {wildcards.scene}"
    shell:
        "recon validate --run {params.run:q} --views {params.views:q} {params.reference:q} --tone {params.tone}"
        " --out {params.out:q} 2>&1 | tee {log:q}"
