"""From stelae.toml to the domain, with errors that name the path and the nearest key."""
