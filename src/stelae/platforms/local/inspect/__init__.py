"""Drift of instances on this machine: what each one is now, beside what it was launched as. Nothing here writes."""
