"""Executors that are wrong, each in one way, and one that is right: the kit must tell which."""
