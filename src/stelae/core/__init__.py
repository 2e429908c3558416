"""Decisions as pure functions: state and observation in, events and allocations out."""
