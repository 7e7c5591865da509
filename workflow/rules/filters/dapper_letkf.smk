use rule assimilate as assimilate_dapper_letkf with:
    wildcard_constraints:
        filter="dapper_letkf",
