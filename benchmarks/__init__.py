"""Speeds, each beside a floor that uses no product code and is measured in the same run."""
