"""The front door of the embedded platform: HAProxy with slots and maps, under a supervisor that holds its sockets."""
