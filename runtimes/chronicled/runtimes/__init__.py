"""Runtimes and the worker. Imports nothing, so that the action server stays small (see ARCHITECTURE)."""
