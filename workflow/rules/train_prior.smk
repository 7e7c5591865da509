# Stage train-prior: one network for each system, parameters and observation, shared by seeds and gaps.


def train_prior_command(wildcards):
    cell = setting_of(wildcards)
    settings = STUDY.prior_settings(cell).model_dump_json(exclude_defaults=True)
    # fmt: off
    return command(
        "train-prior", "--system", cell.settings.system, "--parameters", parameters_json(cell),
        "--observation", observation_json(cell), "--settings", settings, "--seed", STUDY.config.seeds.training,
    )
    # fmt: on


rule train_prior:
    output:
        result(f"{SETTING}/prior/prior.safetensors"),
    log:
        log_path(f"{SETTING}/prior"),
    benchmark:
        benchmark_path(f"{SETTING}/prior")
    params:
        command=train_prior_command,
        version=lambda wildcards: train_prior_version(wildcards.system),
        device="cuda" if gpus(1) else "cpu",
    threads: 1
    resources:
        gpu=gpus(1),
        mem_mb=growing(4000),
        runtime=growing(60),
    conda:
        ENVIRONMENT
    shell:
        "{params.command} --device {params.device} --threads {threads} --output {output:q} 2> {log:q}"
