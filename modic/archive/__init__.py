"""Files of an archive to header rows: walk the folders, read each header, say whose it is."""
