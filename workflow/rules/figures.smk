# Stage plot: the figures of the config, in PDF and PNG.


rule plot:
    input:
        unpack(inputs("plot")),
    output:
        pdf=result(paths.figure("{figure}", "pdf")),
        png=report(
            result(paths.figure("{figure}", "png")),
            caption="../report/figure.rst",
            category=lambda wildcards: figure_category(STUDY, wildcards.figure),
            labels=lambda wildcards: {"figure": STUDY.figures[wildcards.figure].title},
        ),
    log:
        log_path("plot"),
    benchmark:
        benchmark_path("plot")
    wildcard_constraints:
        figure=alternatives(STUDY.figures),
    conda:
        ENVIRONMENT
    resources:
        **asked("plot"),
    params:
        command=lambda wildcards: job("plot", wildcards).command,
        version=lambda wildcards: job("plot", wildcards).version,
        caption=lambda wildcards: figure_caption(STUDY, wildcards.figure),
    shell:
        "{params.command} --study {input.study:q} --scores {input.scores:q}"
        " --output {output.pdf:q} --output {output.png:q} 2> {log:q}"


rule figures:
    input:
        [
            result(paths.figure(name, suffix))
            for name in STUDY.figures
            for suffix in paths.FIGURE_SUFFIXES
        ],
    localrule: True
