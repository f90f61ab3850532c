rule tracking_store:
    # Trainings that start side by side must find the tables of a new SQLite store.
    output:
        touch("results/mlflow.ready"),
    log:
        "results/logs/tracking_store.log",
    benchmark:
        "results/benchmarks/tracking_store.tsv"
    conda:
        "../envs/recon.yaml"
    threads: 1
    resources:
        mem_mb=500,
        runtime=5,
    message:
        "Preparing the MLflow store"
    shell:
        "recon store > {log:q} 2>&1"


rule train:
    input:
        store="results/mlflow.ready",
        views=views(config["training"]),
        validation=[views(name) for name in config["validation"]],
    output:
        ply="results/{scene}/{experiment}/mesh.ply",
        glb="results/{scene}/{experiment}/mesh.glb",
        model="results/{scene}/{experiment}/model.pt",
        config="results/{scene}/{experiment}/train.yaml",
        history="results/{scene}/{experiment}/history.csv",
        validation="results/{scene}/{experiment}/validation.csv",
        run_id="results/{scene}/{experiment}/run_id.txt",
    log:
        "results/logs/{scene}/{experiment}/train.log",
    benchmark:
        "results/benchmarks/{scene}/{experiment}/train.tsv"
    conda:
        "../envs/recon.yaml"
    threads: config["threads"]
    resources:
        mem_mb=2000,
        runtime=training_minutes(),
    params:
        run=subpath(output.model, parent=True),
        validation=lambda wildcards, input: named_views(input.validation),
        overrides=overrides,
        budget=budget(),
    message:
        "Training {wildcards.experiment} on {wildcards.scene}"
    shell:
        "RECON_TAGS=rule=train,scene={wildcards.scene},experiment={wildcards.experiment} "
        "recon train --views {input.views:q} --validation {params.validation:q} {params.overrides:q}"
        " {params.budget} --out {params.run:q} 2>&1 | tee {log:q}"
