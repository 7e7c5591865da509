use rule assimilate as assimilate_masf with:
    wildcard_constraints:
        filter="masf",
