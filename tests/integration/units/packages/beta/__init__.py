"""A unit for the tests: put on the path by hand, so that it belongs to no distribution."""
