"""Kubernetes: sets of instances in a namespace of a cluster. Imported when an environment names one.

Everything that Stelae makes there is labelled with the installation, and only what has that label is looked at.
"""
