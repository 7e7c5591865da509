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
        text=lambda wildcards: observation_text(STUDY, wildcards.observation),
    script:
        "../scripts/write_text.py"


rule simulate:
    input:
        unpack(inputs("simulate")),
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
        **asked("simulate"),
    params:
        command=lambda wildcards: job("simulate", wildcards).command,
        version=lambda wildcards: job("simulate", wildcards).version,
    shell:
        "{params.command} --output {output:q} 2> {log:q}"
