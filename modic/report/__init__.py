"""The HTML report and the methods paragraph of a run."""
