# Stage simulate: one truth with its measurements and initial ensemble for each cell.


def simulate_command(wildcards):
    cell = cell_of(wildcards)
    s = cell.settings
    # fmt: off
    return command(
        "simulate", "--system", s.system, "--parameters", parameters_json(cell),
        "--observation", observation_json(cell), "--gap", s.gap, "--cycles", s.cycles,
        "--members", s.members, "--initial-spread", s.initial_spread, "--seed", s.seed,
    )
    # fmt: on


rule simulate:
    output:
        result(f"{CELL}/truth.nc"),
    log:
        log_path(f"{CELL}/truth"),
    benchmark:
        benchmark_path(f"{CELL}/truth")
    params:
        command=simulate_command,
        version=lambda wildcards: simulate_version(wildcards.system),
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(20),
    conda:
        ENVIRONMENT
    shell:
        "{params.command} --output {output:q} 2> {log:q}"
