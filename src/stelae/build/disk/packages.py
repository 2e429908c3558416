"""What a disk is made with besides the image: the format, and the Debian packages of the boot root."""

from __future__ import annotations

DISK_FORMAT = 1
"""Changes when, and only when, the bytes of the disk of an unchanged image and unchanged packages change."""

FILE_TIME = 1_704_067_200
"""The time of everything in a disk that is no file of the image: 2024-01-01T00:00:00Z, a constant of the format."""

INSIDE = ("busybox-static", "cryptsetup-bin", "libcap2-bin", "linux-image-cloud-amd64", "systemd-boot-efi")
"""Packages of which something is in each disk: the first program's shell, who opens the verified root, who takes
privileges away, the kernel and its modules, the stub of the unified kernel image."""

TOOLS = ("erofs-utils", "zstd")
"""Packages that only make a disk, or what is sent of it."""

PACKAGES = tuple(sorted(INSIDE + TOOLS))
"""What the boot root has to be made of."""
