"""Faults of the disk, injected below the product: at the system call."""
