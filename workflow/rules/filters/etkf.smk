use rule assimilate as assimilate_etkf with:
    wildcard_constraints:
        filter="etkf",
