"""Bootable disks: a verified, read-only root, and a kernel with a first program that starts one process in it."""

from __future__ import annotations

from pathlib import Path


def config_disk_script() -> Path:
    """Return the file by which a machine reads its config disk."""
    return Path(__file__).parent / "config.sh"


def start_script() -> Path:
    """Return the file that a machine runs last, in the image's root: it becomes the process."""
    return Path(__file__).parent / "start.sh"
