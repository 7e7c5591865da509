use rule assimilate as assimilate_masf_mc with:
    output:
        **estimate_output("masf_mc"),
    log:
        log_path(f"{CELL}/masf_mc"),
    benchmark:
        benchmark_path(f"{CELL}/masf_mc")
    threads: STUDY.filters["masf_mc"].resources.threads
    resources:
        **assimilate_resources("masf_mc"),
    params:
        **assimilate_params("masf_mc"),
