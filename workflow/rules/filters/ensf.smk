use rule assimilate as assimilate_ensf with:
    wildcard_constraints:
        filter="ensf",
