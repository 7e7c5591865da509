# Stage assimilate: the template that every filter's rule in filters/ inherits. No request matches it by itself.


def estimate_output(name):
    """The files that a filter's rule writes."""
    return {
        "estimate": result(f"{CELL}/{name}.nc"),
        "cost": result(f"{CELL}/{name}.cost.json"),
    }


def assimilate_command(name):
    """The command of a filter of this package, as a function of the wildcards."""

    def for_cell(wildcards):
        cell = cell_of(wildcards)
        parameters = json.dumps(STUDY.filter_parameters(name, cell), sort_keys=True)
        # fmt: off
        return command(
            "assimilate", "--filter", name, "--module", STUDY.filter_module(name), "--parameters", parameters,
            "--saved-members", STUDY.config.saved_members,
        )
        # fmt: on

    return for_cell


def assimilate_params(name):
    """All params of a filter of this package, for ``params: **assimilate_params(name)``."""
    code = STUDY.filter_module(name)
    return {
        "command": assimilate_command(name),
        "version": lambda wildcards: assimilate_version(code, wildcards.system),
        "device": "cuda" if gpus(STUDY.filters[name].resources.gpu) else "cpu",
        "prior": "",
    }


def prior_option(wildcards, input):
    """The option that hands a filter the pretrained prior."""
    return shlex.join(["--prior", str(input.prior)])


def assimilate_resources(name):
    """What a filter's file in config/filters asks for."""
    asked = STUDY.filters[name].resources
    return {
        "gpu": gpus(asked.gpu),
        "mem_mb": growing(asked.mem_mb),
        "runtime": growing(asked.runtime),
    }


rule assimilate:
    input:
        truth=result(f"{CELL}/truth.nc"),
    output:
        estimate=result(f"{CELL}/{{filter}}.nc"),
        cost=result(f"{CELL}/{{filter}}.cost.json"),
    log:
        log_path(f"{CELL}/{{filter}}"),
    benchmark:
        benchmark_path(f"{CELL}/{{filter}}")
    wildcard_constraints:
        filter="(?!)",
    params:
        command="",
        version="",
        device="cpu",
        prior="",
    threads: 1
    conda:
        ENVIRONMENT
    shell:
        "{params.command} --truth {input.truth:q} {params.prior} --device {params.device} --threads {threads}"
        " --output {output.estimate:q} --cost {output.cost:q} 2> {log:q}"
