use rule assimilate as assimilate_sf with:
    output:
        **estimate_output("sf"),
    log:
        log_path(f"{CELL}/sf"),
    benchmark:
        benchmark_path(f"{CELL}/sf")
    threads: STUDY.filters["sf"].resources.threads
    resources:
        **assimilate_resources("sf"),
    params:
        **assimilate_params("sf"),
