use rule assimilate as assimilate_masf_gaussian with:
    output:
        **estimate_output("masf_gaussian"),
    log:
        log_path(f"{CELL}/masf_gaussian"),
    benchmark:
        benchmark_path(f"{CELL}/masf_gaussian")
    threads: STUDY.filters["masf_gaussian"].resources.threads
    resources:
        **assimilate_resources("masf_gaussian"),
    params:
        **assimilate_params("masf_gaussian"),
