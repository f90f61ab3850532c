rule extract:
    input:
        lambda wildcards: config["source"].format(**wildcards),
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
        mem_mb=1500,
        runtime=10,
    message:
        "Extracting viewpoint set {wildcards.set} of {wildcards.scene}"
    shell:
        "recon extract {input:q} --set-name {wildcards.set} --out {output:q} > {log:q} 2>&1"
