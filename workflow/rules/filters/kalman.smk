use rule assimilate as assimilate_kalman with:
    input:
        **estimate_input("kalman"),
    output:
        **estimate_output("kalman"),
    log:
        log_path(f"{CELL}/kalman"),
    benchmark:
        benchmark_path(f"{CELL}/kalman")
    threads: STUDY.filters["kalman"].resources.threads
    resources:
        **assimilate_resources("kalman"),
    params:
        **assimilate_params("kalman"),
