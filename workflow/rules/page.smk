# Stage page: one page for people, with the headline, the figures and a table of scores to sort and filter.


rule page:
    input:
        study=result(paths.STUDY),
        scores=result(paths.SCORES),
        costs=result(paths.COSTS),
        figures=[result(paths.figure(name, "png")) for name in STUDY.config.figures],
    output:
        result(paths.PAGE),
    log:
        log_path("page"),
    benchmark:
        benchmark_path("page")
    conda:
        ENVIRONMENT
    resources:
        **asked(lambda wildcards: PLOT_REQUEST),
    params:
        figures=lambda wildcards, output: str(Path(output[0]).parent / "figures"),
        tables=lambda wildcards, output: str(Path(output[0]).parent / "tables"),
        version=page_version(),
    shell:
        "masf page --study {input.study:q} --scores {input.scores:q} --costs {input.costs:q} --figures {params.figures:q}"
        " --tables {params.tables:q} --output {output:q} 2> {log:q}"
