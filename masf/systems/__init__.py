"""Dynamical systems, one file each; see :mod:`masf.systems.base` for what a system offers."""
