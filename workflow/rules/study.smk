# The config as it is used, filters' files included: what aggregate and plot read.


rule study:
    output:
        report(
            result(paths.STUDY),
            caption="../report/study.rst",
            category="Provenance",
            labels={"file": "study.json: the config as it was used"},
        ),
    log:
        log_path("study"),
    benchmark:
        benchmark_path("study")
    localrule: True
    conda:
        ENVIRONMENT
    params:
        text=STUDY.to_json(),
        software=", ".join(f"{name} {number}" for name, number in software().items()),
    script:
        "../scripts/write_text.py"
