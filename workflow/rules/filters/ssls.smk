use rule assimilate as assimilate_ssls with:
    wildcard_constraints:
        filter="ssls",
