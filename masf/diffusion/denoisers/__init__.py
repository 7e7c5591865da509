"""Denoisers D(x, t) ~ E[X_0 | X_t = x]: Gaussian in closed form, and networks that correct it."""
