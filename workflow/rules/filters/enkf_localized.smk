use rule assimilate as assimilate_enkf_localized with:
    wildcard_constraints:
        filter="enkf_localized",
