use rule assimilate as assimilate_enkf with:
    input:
        **estimate_input("enkf"),
    output:
        **estimate_output("enkf"),
    log:
        log_path(f"{CELL}/enkf"),
    benchmark:
        benchmark_path(f"{CELL}/enkf")
    threads: STUDY.filters["enkf"].resources.threads
    resources:
        **assimilate_resources("enkf"),
    params:
        **assimilate_params("enkf"),
