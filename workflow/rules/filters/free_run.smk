use rule assimilate as assimilate_free_run with:
    wildcard_constraints:
        filter="free_run",
