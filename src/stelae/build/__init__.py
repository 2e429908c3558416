"""From a commit and a recipe to an OCI image."""
