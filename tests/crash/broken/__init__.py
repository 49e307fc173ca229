"""Broken on purpose: the product with one guarantee taken out, to show that the harness would notice."""
