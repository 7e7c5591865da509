use rule assimilate as assimilate_dapper_etkf with:
    wildcard_constraints:
        filter="dapper_etkf",
