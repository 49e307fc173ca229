"""Event stores, blobs, projections, verification: one file a technology."""
