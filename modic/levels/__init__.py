"""T2 volume → the six lumbar levels: detected, named, checked for being lumbar, counted from C2 on a whole spine."""
