"""Lowering for the torch executor on a CPU."""
