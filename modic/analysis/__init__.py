"""Answers from a published cohort: `modic.open`."""
