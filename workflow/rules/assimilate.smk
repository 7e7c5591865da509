# Stage assimilate: one rule a filter, assimilate_NAME, all with this body; the wildcard {filter}, from which all else follows, tells
# them apart. The rule assimilate itself matches no request: a file filters/NAME.smk inherits from it, and replaces that filter's rule.
OVERRIDING = [
    name
    for name in STUDY.all_filters
    if (ROOT / "workflow" / "rules" / "filters" / f"{name}.smk").is_file()
]
OF_RULE = {"assimilate": "(?!)"} | {
    f"assimilate_{name}": name for name in STUDY.all_filters if name not in OVERRIDING
}

for rule_name, filter_names in OF_RULE.items():

    rule:
        name:
            rule_name
        input:
            unpack(inputs("assimilate")),
        output:
            estimate=result(paths.ESTIMATE),
            cost=result(paths.COST),
        log:
            log_path("assimilate"),
        benchmark:
            benchmark_path("assimilate")
        wildcard_constraints:
            filter=filter_names,
        conda:
            ENVIRONMENT
        threads: lambda wildcards: job("assimilate", wildcards).threads
        resources:
            **asked("assimilate"),
            gpu=lambda wildcards: job("assimilate", wildcards).gpu,
        params:
            command=lambda wildcards: job("assimilate", wildcards).command,
            version=lambda wildcards: job("assimilate", wildcards).version,
            device=lambda wildcards: job("assimilate", wildcards).device,
            prior=options("prior", "prior"),
            tuned=options("tuned", "tuned"),
        shell:
            "{params.command} --truth {input.truth:q} {params.prior} {params.tuned} --device {params.device} --threads {threads}"
            " --output {output.estimate:q} --cost {output.cost:q} 2> {log:q}"


for name in OVERRIDING:

    include: f"filters/{name}.smk"
