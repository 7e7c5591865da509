use rule assimilate as assimilate_enkf_localized with:
    input:
        **estimate_input("enkf_localized"),
    output:
        **estimate_output("enkf_localized"),
    log:
        log_path(f"{CELL}/enkf_localized"),
    benchmark:
        benchmark_path(f"{CELL}/enkf_localized")
    threads: STUDY.filters["enkf_localized"].resources.threads
    resources:
        **assimilate_resources("enkf_localized"),
    params:
        **assimilate_params("enkf_localized"),
