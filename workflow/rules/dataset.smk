rule extract:
    input:
        source=source_file,
        parts=source_parts,
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
        source=source,
        like=lambda wildcards, input: ["--like", input.like] if input.like else [],
        framing=framing,
    message:
        "Extracting viewpoint set {wildcards.set} of {wildcards.scene}"
    shell:
        "recon extract {params.source:q} --set-name {wildcards.set} {params.like:q} {params.framing:q}"
        " --out {output:q} > {log:q} 2>&1"


rule reference:
    input:
        source=source_file,
        parts=source_parts,
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
    params:
        source=source,
    message:
        "Writing the true mesh of {wildcards.scene}"
    shell:
        "recon reference {params.source:q} --out {output:q} > {log:q} 2>&1"
