"""Imports: other systems' records read from files, and written to the log as events of ours."""
