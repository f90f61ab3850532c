rule page:
    input:
        history=expand("{run}/history.csv", run=RUNS),
        mesh=expand("{run}/mesh.glb", run=RUNS),
        metrics=expand("{run}/validation/{set}.json", run=RUNS, set=config["validation"]),
    output:
        page=report("results/report/index.html", caption="../report/page.rst", category="Report"),
    log:
        "results/logs/report.log",
    benchmark:
        "results/benchmarks/report.tsv"
    conda:
        "../envs/recon.yaml"
    threads: 1
    resources:
        mem_mb=1500,
        runtime=10,
    params:
        runs=RUNS,
        out=subpath(output.page, parent=True),
    message:
        "Writing the report {output}"
    shell:
        "recon report --runs {params.runs:q} --out {params.out:q} > {log:q} 2>&1"
