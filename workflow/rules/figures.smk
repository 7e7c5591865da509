# Stage plot: the figures of the config, in PDF and PNG.


rule plot:
    input:
        study=result(paths.STUDY),
        scores=result(paths.SCORES),
        files=figure_files,
    output:
        pdf=result(paths.figure("{figure}", "pdf")),
        png=report(
            result(paths.figure("{figure}", "png")),
            caption="../report/figure.rst",
            category=lambda wildcards: figure_category(STUDY, wildcards.figure),
            labels=lambda wildcards: {"figure": figure_of(wildcards).title},
        ),
    log:
        log_path("plot"),
    benchmark:
        benchmark_path("plot")
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
        [
            result(paths.figure(name, suffix))
            for name in STUDY.config.figures
            for suffix in paths.FIGURE_SUFFIXES
        ],
    localrule: True
