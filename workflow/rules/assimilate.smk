# Stage assimilate: the template that every filter's rule in filters/ inherits. No request matches it by itself.


rule assimilate:
    input:
        truth=result(f"{CELL}/truth.nc"),
    output:
        estimate=result(f"{CELL}/{{filter}}.nc"),
        cost=result(f"{CELL}/{{filter}}.cost.json"),
    log:
        log_path(f"{CELL}/{{filter}}"),
    benchmark:
        benchmark_path(f"{CELL}/{{filter}}")
    wildcard_constraints:
        filter="(?!)",
    conda:
        ENVIRONMENT
    threads: 1
    params:
        command="",
        version="",
        device="cpu",
        prior="",
        tuned="",
    shell:
        "{params.command} --truth {input.truth:q} {params.prior} {params.tuned} --device {params.device} --threads {threads}"
        " --output {output.estimate:q} --cost {output.cost:q} 2> {log:q}"
