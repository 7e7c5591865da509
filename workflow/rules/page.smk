# Stage page: one page for people, with the headline, the figures and a table of scores to sort and filter.


rule page:
    input:
        unpack(inputs("page")),
    output:
        result(paths.PAGE),
    log:
        log_path("page"),
    benchmark:
        benchmark_path("page")
    conda:
        ENVIRONMENT
    resources:
        **asked("page"),
    params:
        command=lambda wildcards: job("page", wildcards).command,
        version=lambda wildcards: job("page", wildcards).version,
        figures=lambda wildcards, output: str(Path(output[0]).parent / "figures"),
        tables=lambda wildcards, output: str(Path(output[0]).parent / "tables"),
    shell:
        "{params.command} --study {input.study:q} --scores {input.scores:q} --costs {input.costs:q} --figures {params.figures:q}"
        " --tables {params.tables:q} --output {output:q} 2> {log:q}"
