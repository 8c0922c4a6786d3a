"""Signed, first-order evidence for an edge: activation times gradient."""
