"""Forward processes, denoisers and samplers: the mathematics of score-based filters."""
