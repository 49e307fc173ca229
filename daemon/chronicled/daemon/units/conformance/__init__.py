"""The conformance kit: tells the author of a unit whether it is right. `pytest --chronicled-unit NAME` runs it."""
