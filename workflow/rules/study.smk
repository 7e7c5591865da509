# The config as it is used, filters' files included: what aggregate and plot read.


rule study:
    output:
        result("study.json"),
    log:
        log_path("study"),
    localrule: True
    conda:
        ENVIRONMENT
    params:
        command=command("study", {"config": STUDY.to_json()}),
    shell:
        "{params.command} --output {output:q} 2> {log:q}"
