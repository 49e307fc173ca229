"""An example unit for chronicled: `acme.tally` counts words, and remembers."""
