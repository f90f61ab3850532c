rule extract:
    input:
        source=lambda wildcards: config["source"].format(**wildcards),
        parts=scene_parts,
        like=like,
    output:
        "results/{scene}/views/{set}.npz",
    log:
        "results/logs/{scene}/views/{set}.log",
    benchmark:
        "results/benchmarks/{scene}/views/{set}.tsv"
    conda:
        "../envs/recon.yaml"
    threads: 1
    resources:
        mem_mb=more(2000),
        runtime=more(30),
    params:
        like=lambda wildcards, input: ["--like", input.like] if input.like else [],
    message:
        "Extracting viewpoint set {wildcards.set} of {wildcards.scene}"
    shell:
        "recon extract {input.source:q} --set-name {wildcards.set} {params.like:q} --out {output:q} > {log:q} 2>&1"


rule reference:
    input:
        source=lambda wildcards: config["source"].format(**wildcards),
        parts=scene_parts,
    output:
        "results/{scene}/reference.ply",
    log:
        "results/logs/{scene}/reference.log",
    benchmark:
        "results/benchmarks/{scene}/reference.tsv"
    conda:
        "../envs/recon.yaml"
    threads: 1
    resources:
        mem_mb=more(1000),
        runtime=more(10),
    message:
        "Writing the true mesh of {wildcards.scene}"
    shell:
        "recon reference {input.source:q} --out {output:q} > {log:q} 2>&1"
