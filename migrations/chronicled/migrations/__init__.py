"""Upcasters, the schema lock, importers of foreign logs. No I/O but the lock file that ships in the package."""
