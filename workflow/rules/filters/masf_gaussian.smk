use rule assimilate as assimilate_masf_gaussian with:
    wildcard_constraints:
        filter="masf_gaussian",
