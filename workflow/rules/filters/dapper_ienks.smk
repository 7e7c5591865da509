use rule assimilate as assimilate_dapper_ienks with:
    wildcard_constraints:
        filter="dapper_ienks",
