"""Jinja templates of the report, the reading page and the experiment."""
