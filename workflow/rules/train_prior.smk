# Stage train-prior: one network for each system, parameters and observation, shared by seeds, gaps, ensemble sizes and long rings.


rule train_prior:
    input:
        unpack(inputs("train_prior")),
    output:
        result(paths.PRIOR),
    log:
        log_path("train_prior"),
    benchmark:
        benchmark_path("train_prior")
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        **asked("train_prior"),
        gpu=lambda wildcards: job("train_prior", wildcards).gpu,
    params:
        command=lambda wildcards: job("train_prior", wildcards).command,
        version=lambda wildcards: job("train_prior", wildcards).version,
        device=lambda wildcards: job("train_prior", wildcards).device,
    shell:
        "{params.command} --device {params.device} --threads {threads} --output {output:q} 2> {log:q}"
