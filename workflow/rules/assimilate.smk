# Stage assimilate: one rule a filter, assimilate_NAME, all with this body; the wildcard {filter}, from which all else follows, tells
# them apart. The rule assimilate itself matches no request: a file filters/NAME.smk inherits from it, and replaces that filter's rule.
OVERRIDING = [
    name
    for name in STUDY.all_filters
    if (ROOT / "workflow" / "rules" / "filters" / f"{name}.smk").is_file()
]
# Of each rule its name, its filter, and as with_seeds says the seeds of a job and what limits it to these.
OF_RULE = [("assimilate", "(?!)", None, paths.WILDCARDS["system"])]
for filter_name in STUDY.all_filters:
    if filter_name not in OVERRIDING:
        OF_RULE += [
            (rule_name, filter_name, seeds, constraint)
            for rule_name, seeds, constraint in with_seeds(
                f"assimilate_{filter_name}", filter_name
            )
        ]

for rule_name, filter_name, seeds, constraint in OF_RULE:

    rule:
        name:
            rule_name
        input:
            unpack(inputs("assimilate")),
        output:
            estimate=of_seeds(paths.ESTIMATE, seeds),
            cost=of_seeds(paths.COST, seeds),
        log:
            log_path("assimilate", seeds),
        benchmark:
            benchmark_path("assimilate", seeds)
        wildcard_constraints:
            filter=filter_name,
            system=constraint,
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
            truths=options("truth", "truth"),
            estimates=lambda wildcards, output: written("output", output.estimate),
            costs=lambda wildcards, output: written("cost", output.cost),
        shell:
            "{params.command} {params.truths} {params.prior} {params.tuned} --device {params.device} --threads {threads}"
            " {params.estimates} {params.costs} 2> {log:q}"


for name in OVERRIDING:

    include: f"filters/{name}.smk"
