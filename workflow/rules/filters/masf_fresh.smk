use rule assimilate as assimilate_masf_fresh with:
    input:
        **estimate_input("masf_fresh"),
    output:
        **estimate_output("masf_fresh"),
    log:
        log_path(f"{CELL}/masf_fresh"),
    benchmark:
        benchmark_path(f"{CELL}/masf_fresh")
    threads: STUDY.filters["masf_fresh"].resources.threads
    resources:
        **assimilate_resources("masf_fresh"),
    params:
        **assimilate_params("masf_fresh"),
