"""Bootable disks: a verified, read-only root, and a kernel with a first program that starts one process in it."""
