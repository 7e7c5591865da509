use rule assimilate as assimilate_sf with:
    wildcard_constraints:
        filter="sf",
