"""The record outside of its machine: exported to be checked, backed up, and brought back."""
