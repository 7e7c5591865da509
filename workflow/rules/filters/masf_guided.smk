use rule assimilate as assimilate_masf_guided with:
    wildcard_constraints:
        filter="masf_guided",
