"""Stelae deploys software as immutable infrastructure."""

__version__ = "0.1.0"
