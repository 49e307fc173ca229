"""The worker: claims sessions, owns their sandboxes, sends them actions and publishes what they led to."""
