"""The figures that a config asks for, one module a kind; masf.study.figures.base says what makes a
kind.
"""
