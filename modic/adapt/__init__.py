"""A site's readings → a grader of its own, and the proof that it is better there: `modic adapt`."""
