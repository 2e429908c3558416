"""The command line: one thin file a verb, over the controller's API."""
