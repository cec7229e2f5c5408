"""T2 volume → the six lumbar levels: detected, named, and checked for being lumbar at all."""
