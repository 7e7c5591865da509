use rule assimilate as assimilate_free_run with:
    input:
        **estimate_input("free_run"),
    output:
        **estimate_output("free_run"),
    log:
        log_path(f"{CELL}/free_run"),
    benchmark:
        benchmark_path(f"{CELL}/free_run")
    threads: STUDY.filters["free_run"].resources.threads
    resources:
        **assimilate_resources("free_run"),
    params:
        **assimilate_params("free_run"),
