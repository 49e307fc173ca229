"""How units of third parties come into sandboxes: their distributions, and nothing else of this host."""
