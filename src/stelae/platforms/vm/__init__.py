"""The platform ``vm``: each instance is a virtual machine of this machine; all boot one read-only disk."""
