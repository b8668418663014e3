"""Several modalities to one representation."""
