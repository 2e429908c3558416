"""The image store: an OCI layout, and its layers as mounted EROFS files."""
