"""Figures of a trained model; each function returns a matplotlib Figure."""
