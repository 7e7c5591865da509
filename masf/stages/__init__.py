"""The stages of a study: simulate, train-prior, tune, assimilate, aggregate, plot, page."""
