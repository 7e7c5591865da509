use rule assimilate as assimilate_etkf with:
    output:
        **estimate_output("etkf"),
    log:
        log_path(f"{CELL}/etkf"),
    benchmark:
        benchmark_path(f"{CELL}/etkf")
    threads: STUDY.filters["etkf"].resources.threads
    resources:
        **assimilate_resources("etkf"),
    params:
        **assimilate_params("etkf"),
