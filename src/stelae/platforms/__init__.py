"""Platforms: whatever can hold an allocation and observe what is there."""
