# Stage aggregate: all results in one file of scores, and tables.


rule aggregate:
    input:
        study=result(paths.STUDY),
        estimates=[
            result(path)
            for cell in STUDY.cells.values()
            for name in cell.filters
            for path in (cell.estimate(name), cell.cost(name))
        ],
        truths=[result(path) for path in STUDY.scored_truths],
        tuned=TUNED,
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
        **asked(lambda wildcards: aggregate_request(STUDY)),
    params:
        folder=folder_of_tables,
        settings={
            name: experiment_settings(STUDY, name) for name in STUDY.config.experiments
        },
        version=code_version("stages.aggregate"),
    shell:
        "masf aggregate --study {input.study:q} --scores {output.scores:q} --costs {output.costs:q}"
        " --tables {params.folder:q} 2> {log:q}"


rule tables:
    input:
        rules.aggregate.output,
    localrule: True
