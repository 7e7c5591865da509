use rule assimilate as assimilate_masf_mc with:
    wildcard_constraints:
        filter="masf_mc",
