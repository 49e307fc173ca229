"""Broken on purpose: the product with one guarantee about containers taken out, to show that the harness notices."""
