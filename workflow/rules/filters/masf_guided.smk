use rule assimilate as assimilate_masf_guided with:
    input:
        **estimate_input("masf_guided"),
    output:
        **estimate_output("masf_guided"),
    log:
        log_path(f"{CELL}/masf_guided"),
    benchmark:
        benchmark_path(f"{CELL}/masf_guided")
    threads: STUDY.filters["masf_guided"].resources.threads
    resources:
        **assimilate_resources("masf_guided"),
    params:
        **assimilate_params("masf_guided"),
