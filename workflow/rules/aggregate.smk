# Stage aggregate: all results in one file of scores, and tables.


rule aggregate:
    input:
        study=result("study.json"),
        estimates=[
            result(f"{cell.path}/{name}.{suffix}")
            for cell in STUDY.cells.values()
            for name in cell.filters
            for suffix in ("nc", "cost.json")
        ],
        tuned=TUNED,
    output:
        scores=result("scores.parquet"),
        costs=result("costs.parquet"),
        csv=[result("scores.csv"), result("costs.csv")],
        tables=[in_report(name) for name in STUDY.tables],
        others=[
            result(f"tables/{name}.{end}")
            for name in STUDY.tables
            for end in ("md", "tex")
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
