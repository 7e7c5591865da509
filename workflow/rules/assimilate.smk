# Stage assimilate: the rule that every filter's rule in filters/ inherits. No request matches it by itself; a filter's rule sets
# which one it is by the wildcard {filter}, from which all else follows, and may set anything but the shell command anew.


rule assimilate:
    input:
        truth=result(paths.TRUTH),
        prior=prior_input(cell_of),
        tuned=tuned_input,
    output:
        estimate=result(paths.ESTIMATE),
        cost=result(paths.COST),
    log:
        log_path("assimilate"),
    benchmark:
        benchmark_path("assimilate")
    wildcard_constraints:
        filter="(?!)",
    conda:
        ENVIRONMENT
    threads: lambda wildcards: resources_of(wildcards).threads
    resources:
        **asked(assimilate_asks),
        gpu=gpus_of,
    params:
        command=assimilate_command,
        version=filter_code(assimilate_version),
        device=device_of,
        prior=input_option("prior"),
        tuned=input_option("tuned"),
    shell:
        "{params.command} --truth {input.truth:q} {params.prior} {params.tuned} --device {params.device} --threads {threads}"
        " --output {output.estimate:q} --cost {output.cost:q} 2> {log:q}"
