use rule assimilate as assimilate_ssls with:
    output:
        **estimate_output("ssls"),
    log:
        log_path(f"{CELL}/ssls"),
    benchmark:
        benchmark_path(f"{CELL}/ssls")
    threads: STUDY.filters["ssls"].resources.threads
    resources:
        **assimilate_resources("ssls"),
    params:
        **assimilate_params("ssls"),
