"""The action server: what runs inside a sandbox. Standard library and msgspec only."""
