"""The version that the page shows. Change it, commit, deploy, and watch it move."""

VERSION = "1"
