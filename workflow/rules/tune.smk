# Stage tune: the parameters with which a filter scores best on tuning seeds, at each point of the section tuning. Filters that
# compute on a GPU have a rule of their own, so that a cluster can send it elsewhere.
ON_GPU = [name for name in STUDY.all_filters if STUDY.filters[name].resources.gpu]


rule tune:
    input:
        unpack(inputs("tune")),
    output:
        result(paths.TUNED),
    log:
        log_path("tune"),
    benchmark:
        benchmark_path("tune")
    wildcard_constraints:
        filter=alternatives(f for f in STUDY.all_filters if f not in ON_GPU),
    conda:
        ENVIRONMENT
    threads: lambda wildcards: job("tune", wildcards).threads
    resources:
        **asked("tune"),
        gpu=lambda wildcards: job("tune", wildcards).gpu,
    params:
        command=lambda wildcards: job("tune", wildcards).command,
        version=lambda wildcards: job("tune", wildcards).version,
        device=lambda wildcards: job("tune", wildcards).device,
        truths=options("truth", "truths"),
        prior=options("prior", "prior"),
        # No output: it outlives jobs that fail, and tells the next one which trials are done.
        journal=lambda wildcards: result(paths.JOURNAL.format_map(dict(wildcards))),
    shell:
        "{params.command} {params.truths} {params.prior} --storage {params.journal:q} --device {params.device}"
        " --threads {threads} --output {output:q} 2> {log:q}"


use rule tune as tune_gpu with:
    wildcard_constraints:
        filter=alternatives(ON_GPU),


rule tunings:
    input:
        tuned_files(STUDY),
    localrule: True
