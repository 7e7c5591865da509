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


for name, seeds, constraint in with_seeds("simulate"):

    rule:
        name:
            name
        input:
            unpack(inputs("simulate")),
        output:
            of_seeds(paths.TRUTH, seeds),
        log:
            log_path("simulate", seeds),
        benchmark:
            benchmark_path("simulate", seeds)
        wildcard_constraints:
            system=constraint,
        conda:
            ENVIRONMENT
        threads: 1
        resources:
            **asked("simulate"),
        params:
            command=lambda wildcards: job("simulate", wildcards).command,
            version=lambda wildcards: job("simulate", wildcards).version,
            output=lambda wildcards, output: written("output", list(output)),
        shell:
            "{params.command} {params.output} 2> {log:q}"
