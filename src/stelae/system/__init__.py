"""Thin wrappers of the operating system: files, commands, mounts, the clock."""
