use rule assimilate as assimilate_masf with:
    input:
        truth=result(f"{CELL}/truth.nc"),
        prior=result(f"{SETTING}/prior/prior.safetensors"),
    output:
        **estimate_output("masf"),
    log:
        log_path(f"{CELL}/masf"),
    benchmark:
        benchmark_path(f"{CELL}/masf")
    params:
        **(assimilate_params("masf") | {"prior": prior_option}),
    threads: STUDY.filters["masf"].resources.threads
    resources:
        **assimilate_resources("masf"),
