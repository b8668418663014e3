"""Values to losses."""
