# Stage train-prior: one network for each system, parameters and observation, shared by seeds, gaps, ensemble sizes and long rings.


rule train_prior:
    input:
        observation=observation_input,
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
        **asked(lambda wildcards: train_prior_request(prior_of(wildcards))),
        gpu=gpus(1),
    params:
        command=train_prior_command,
        version=lambda wildcards: train_prior_version(wildcards.system),
        device="cuda" if gpus(1) else "cpu",
    shell:
        "{params.command} --device {params.device} --threads {threads} --output {output:q} 2> {log:q}"
