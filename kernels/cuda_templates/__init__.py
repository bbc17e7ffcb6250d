"""Texts of the CUDA kernels, each built from formulas: a `Program` per signature."""
