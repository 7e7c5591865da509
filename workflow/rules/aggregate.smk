# Stage aggregate: all results in one file of scores, and tables.


rule aggregate:
    input:
        unpack(inputs("aggregate")),
    output:
        scores=result(paths.SCORES),
        costs=result(paths.COSTS),
        csv=[result(paths.csv(path)) for path in (paths.SCORES, paths.COSTS)],
        tables=[in_report(name) for name in STUDY.tables],
        others=[
            result(paths.table(name, suffix))
            for name in STUDY.tables
            for suffix in paths.TABLE_SUFFIXES
            if suffix != "csv"
        ],
    log:
        log_path("aggregate"),
    benchmark:
        benchmark_path("aggregate")
    conda:
        ENVIRONMENT
    resources:
        **asked("aggregate"),
    params:
        command=lambda wildcards: job("aggregate", wildcards).command,
        version=lambda wildcards: job("aggregate", wildcards).version,
        folder=lambda wildcards, output: str(Path(output.tables[0]).parent),
        settings={
            name: experiment_settings(STUDY, name) for name in STUDY.config.experiments
        },
    shell:
        "{params.command} --study {input.study:q} --scores {output.scores:q} --costs {output.costs:q}"
        " --tables {params.folder:q} 2> {log:q}"


rule tables:
    input:
        rules.aggregate.output,
    localrule: True
