use rule assimilate as assimilate_particle with:
    input:
        **estimate_input("particle"),
    output:
        **estimate_output("particle"),
    log:
        log_path(f"{CELL}/particle"),
    benchmark:
        benchmark_path(f"{CELL}/particle")
    threads: STUDY.filters["particle"].resources.threads
    resources:
        **assimilate_resources("particle"),
    params:
        **assimilate_params("particle"),
