# The config as it is used, filters' files included: what aggregate and plot read.


rule study:
    output:
        result("study.json"),
    log:
        log_path("study"),
    benchmark:
        benchmark_path("study")
    localrule: True
    conda:
        ENVIRONMENT
    params:
        text=STUDY.to_json(),
    script:
        "../scripts/write_text.py"
