use rule assimilate as assimilate_kalman with:
    wildcard_constraints:
        filter="kalman",
