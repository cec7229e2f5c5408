"""The six discs of a volume: found, named, and checked for plausibility."""
