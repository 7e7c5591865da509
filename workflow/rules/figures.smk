# Stage plot: the figures of the config, in PDF and PNG.


rule plot:
    input:
        study=result("study.json"),
        scores=result("scores.parquet"),
        files=figure_files,
    output:
        pdf=result("figures/{figure}.pdf"),
        png=report(
            result("figures/{figure}.png"),
            caption="../report/figure.rst",
            category=lambda wildcards: figure_category(STUDY, wildcards.figure),
            labels=lambda wildcards: {"figure": figure_of(wildcards).title},
        ),
    log:
        log_path("figures/{figure}"),
    benchmark:
        benchmark_path("figures/{figure}")
    wildcard_constraints:
        figure=alternatives(STUDY.config.figures),
    conda:
        ENVIRONMENT
    resources:
        **asked(lambda wildcards: PLOT_REQUEST),
    params:
        caption=lambda wildcards: figure_caption(STUDY, wildcards.figure),
        version=code_version("stages.plot"),
    shell:
        "masf plot {wildcards.figure} --study {input.study:q} --scores {input.scores:q}"
        " --output {output.pdf:q} --output {output.png:q} 2> {log:q}"


rule figures:
    input:
        expand(
            result("figures/{figure}.{suffix}"),
            figure=STUDY.config.figures,
            suffix=["pdf", "png"],
        ),
    localrule: True
