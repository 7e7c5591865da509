# Stage simulate: one truth with its measurements and initial ensemble for each cell. Observations too long for a command have a file.


rule observation:
    output:
        result(paths.OBSERVATION),
    log:
        log_path("observation"),
    benchmark:
        benchmark_path("observation")
    localrule: True
    conda:
        ENVIRONMENT
    params:
        text=observation_json,
    script:
        "../scripts/write_text.py"


rule simulate:
    input:
        observation=observation_input,
    output:
        result(paths.TRUTH),
    log:
        log_path("simulate"),
    benchmark:
        benchmark_path("simulate")
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
