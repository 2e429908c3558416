"""Attestations: what is inside an image, how it was built, and who vouches for it."""
