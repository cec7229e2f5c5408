"""Files of an archive → header rows: list a source, read each header, and tell patients apart."""
