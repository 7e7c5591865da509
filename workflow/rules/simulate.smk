# Stage simulate: one truth with its measurements and initial ensemble for each cell.


rule simulate:
    output:
        result(f"{CELL}/truth.nc"),
    log:
        log_path(f"{CELL}/truth"),
    benchmark:
        benchmark_path(f"{CELL}/truth")
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        **asked(lambda wildcards: simulate_request(cell_of(wildcards))),
    params:
        command=simulate_command,
        version=lambda wildcards: simulate_version(wildcards.system),
    shell:
        "{params.command} --output {output:q} 2> {log:q}"
