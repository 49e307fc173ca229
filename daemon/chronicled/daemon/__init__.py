"""The daemon: composition root, configuration, HTTP API."""
