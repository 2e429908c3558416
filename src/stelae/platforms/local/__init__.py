"""The embedded platform: containers on one Linux machine by conmon and crun or runc, behind HAProxy."""
