# Stage tune: the parameters with which a filter scores best on tuning seeds, at each point of the section tuning. Filters that
# compute on a GPU have a rule of their own, so that a cluster can send it elsewhere.


rule tune:
    input:
        truths=lambda wildcards: [result(cell.truth) for cell in point_of(wildcards)],
        prior=prior_input(lambda wildcards: point_of(wildcards)[0]),
    output:
        result(paths.TUNED),
    log:
        log_path("tune"),
    benchmark:
        benchmark_path("tune")
    wildcard_constraints:
        filter=alternatives(f for f in STUDY.all_filters if not wants_gpu(f)),
    conda:
        ENVIRONMENT
    threads: lambda wildcards: resources_of(wildcards).threads
    resources:
        gpu=gpus_of,
        mem_mb=lambda wildcards, attempt: tune_asks(wildcards).attempt(attempt).mem_mb,
        # The same with each attempt: the next one goes on from the trials that are done.
        runtime=lambda wildcards: tune_asks(wildcards).runtime,
    params:
        command=tune_command,
        version=filter_code(tune_version),
        device=device_of,
        truths=lambda wildcards, input: shlex.join(
            word for path in input.truths for word in ("--truth", path)
        ),
        prior=input_option("prior"),
        # No output: it outlives jobs that fail, and tells the next one which trials are done.
        journal=lambda wildcards: result(paths.JOURNAL.format_map(dict(wildcards))),
    shell:
        "{params.command} {params.truths} {params.prior} --storage {params.journal:q} --device {params.device}"
        " --threads {threads} --output {output:q} 2> {log:q}"


use rule tune as tune_gpu with:
    wildcard_constraints:
        filter=alternatives(f for f in STUDY.all_filters if wants_gpu(f)),


TUNED = [
    result(cells[0].tuned(name))
    for point, cells in STUDY.points.items()
    for name in STUDY.tuned_filters(point)
]


rule tunings:
    input:
        TUNED,
    localrule: True
