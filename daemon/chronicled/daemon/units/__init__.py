"""Units of third parties in the daemon: found, loaded, asked."""
