use rule assimilate as assimilate_ensf with:
    output:
        **estimate_output("ensf"),
    log:
        log_path(f"{CELL}/ensf"),
    benchmark:
        benchmark_path(f"{CELL}/ensf")
    threads: STUDY.filters["ensf"].resources.threads
    resources:
        **assimilate_resources("ensf"),
    params:
        **assimilate_params("ensf"),
