"""What leaves the private folder: keyed pseudonyms and scanner names without serial numbers."""
