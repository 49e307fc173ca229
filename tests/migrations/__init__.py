"""The database's way from step to step, and logs that are written anew: with real data, killed at every named point."""
