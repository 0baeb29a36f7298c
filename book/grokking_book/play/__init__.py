"""What a page lets its reader play with."""
