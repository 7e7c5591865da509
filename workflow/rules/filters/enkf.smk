use rule assimilate as assimilate_enkf with:
    wildcard_constraints:
        filter="enkf",
