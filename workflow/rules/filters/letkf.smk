use rule assimilate as assimilate_letkf with:
    output:
        **estimate_output("letkf"),
    log:
        log_path(f"{CELL}/letkf"),
    benchmark:
        benchmark_path(f"{CELL}/letkf")
    threads: STUDY.filters["letkf"].resources.threads
    resources:
        **assimilate_resources("letkf"),
    params:
        **assimilate_params("letkf"),
