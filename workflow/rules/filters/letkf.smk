use rule assimilate as assimilate_letkf with:
    wildcard_constraints:
        filter="letkf",
