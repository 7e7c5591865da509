use rule assimilate as assimilate_particle with:
    wildcard_constraints:
        filter="particle",
