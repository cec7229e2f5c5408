"""Labels that readers gave: tables of grades and boxes, names of levels in them, and a count of those left out."""
