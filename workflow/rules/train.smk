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
    # The folder is called by what changes the result, so that a renamed experiment is not trained again.
    input:
        store=ancient("results/mlflow.ready"),
        views=training_views,
        validation=[views(name) for name in config["validation"]],
    output:
        # Files and not the folder, whose checkpoints must outlast a job that fails.
        model=f"{RUN}/{MODEL.name}",
        others=[f"{RUN}/{name}" for name in BESIDE_MODEL],
    log:
        "results/logs/{scene}/runs/{identity}/train.log",
    benchmark:
        "results/benchmarks/{scene}/runs/{identity}/train.tsv"
    conda:
        "../envs/recon.yaml"
    threads: training_threads
    resources:
        mem_mb=for_training,
        runtime=training_minutes,
    params:
        run=subpath(output.model, parent=True),
        validation=lambda wildcards, input: named_views(input.validation),
        overrides=overrides,
        budget=budget,
        # Asking for `resources` keeps the name from what makes Snakemake run a job again.
        experiment=lambda wildcards, resources: PLAN.experiment(wildcards).name,
        recon=lambda wildcards, resources: command(wildcards),
    message:
        "Training {params.experiment} on {wildcards.scene}"
    shell:
        # A scheduler that ends the job tells all its processes. The shell must not end before the training has kept
        # its state, nor the log before the training. What was trained on other views does not go on.
        "trap : INT TERM; "
        "RECON_TAGS=rule=train,scene={wildcards.scene},experiment={params.experiment},identity={wildcards.identity} "
        "{params.recon:q} train --name {wildcards.scene}/{params.experiment} --views {input.views:q}"
        " --validation {params.validation:q} {params.overrides:q} {params.budget} --restart changed --out {params.run:q}"
        " 2>&1 | (trap '' INT TERM; exec tee {log:q})"
