"""What filters do to ensembles besides the analysis: localisation, inflation, relaxation, rotation,
innovations.
"""
