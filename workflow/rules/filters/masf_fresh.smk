use rule assimilate as assimilate_masf_fresh with:
    wildcard_constraints:
        filter="masf_fresh",
