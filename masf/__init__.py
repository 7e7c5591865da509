"""masf: a benchmark suite for score-based data assimilation.

The stages of the study are subcommands of ``masf`` (see :mod:`masf.cli`); the Snakemake workflow calls them.
"""

__version__ = "0.1.0"
