use rule assimilate as assimilate_masf with:
    input:
        **estimate_input("masf"),
    output:
        **estimate_output("masf"),
    log:
        log_path(f"{CELL}/masf"),
    benchmark:
        benchmark_path(f"{CELL}/masf")
    threads: STUDY.filters["masf"].resources.threads
    resources:
        **assimilate_resources("masf"),
    params:
        **assimilate_params("masf"),
