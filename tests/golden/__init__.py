"""Golden files: bytes that this or an earlier version wrote, which every later version must read."""
